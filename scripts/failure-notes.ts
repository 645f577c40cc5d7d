import type { FailureCode } from '../src/base/index.ts';

/** What each failure means and what to do, for docs/reference/errors.md. */
export const FAILURE_NOTES: Readonly<Record<FailureCode, string>> = {
  'chunk-missing':
    'A manifest names a chunk that the library does not have. Run `ingot library verify`.',
  'chunk-corrupt':
    'Stored bytes do not have their digest or CRC. The chunk is quarantined; importing an image that has it heals it.',
  'segment-malformed': 'A coded chunk does not inflate to exactly the bytes that it promises.',
  'pack-corrupt': 'A pack file has no valid footer, or its footer contradicts its length.',
  'manifest-invalid':
    "The list of chunks does not add up to the disk, or its signature is not the library's.",
  'library-busy': 'Another daemon has the data directory open.',
  'library-unusable': 'The data directory is none, or storage refused to write or to sync.',
  'library-full':
    'No space is left for new chunks. `ingot images destroy` and `ingot library gc` still work.',
  'version-unknown': 'The data was written by a newer Ingot.',
  'image-not-found': 'No image has this id, or it belongs to somebody else.',
  'image-in-use': 'The image is locked, or a server is being made from it.',
  'image-not-ready': 'The image is still being made, is being deleted, or failed.',
  'ingest-not-found': 'No upload session has this id.',
  'ingest-expired':
    'The upload session waited too long, or its daemon restarted; start the import again: chunks that arrived are found again.',
  'job-not-found': 'No job has this id.',
  'verify-failed': 'Reading the library back found damage; the report names the chunks and images.',
  'source-size-mismatch': 'The source gave more or fewer bytes than it promised.',
  'source-frozen':
    'Somebody else has frozen the filesystem. Ingot never thaws what it did not freeze.',
  'source-not-found': 'The path is no directory, block device, file or image.',
  'source-unsupported': 'This kind of source cannot be captured; the message says which and why.',
  'source-unreadable': 'Reading the source failed.',
  'source-truncated': 'The source ended before its last byte.',
  'freeze-failed':
    'The filesystem could not be frozen. `--no-freeze` goes on without and records it.',
  'freeze-lost':
    'The freeze ended before the capture did, so the copy is of no single instant; nothing was kept.',
  'freeze-timeout':
    'The freeze reached its limit and was ended (`--max-freeze`, or no progress for 30 s).',
  'target-would-freeze': 'Output, spool or library lies on the filesystem that would be frozen.',
  'target-is-terminal': 'Image bytes would go to a terminal. Use `-o FILE` or a pipe.',
  'target-too-small': 'The target is smaller than the image.',
  'target-full': 'No space was left at the target; the partial file is removed.',
  'target-closed': 'The reader of the pipe went away.',
  'target-in-use': 'The target is mounted or open elsewhere.',
  'not-root': 'Freezing a filesystem and reading its device need root.',
  'filesystem-malformed':
    'Filesystem structures contradict themselves where this command needs them.',
  'tool-missing':
    'A program that this command needs is not installed; `ingot doctor` names its package.',
  'source-digest-mismatch':
    'What was sent or fetched has another SHA-256 than was said; nothing was made of it.',
  'target-unwritable': 'The target refused to be opened or written; the message has the reason.',
  'artifact-malformed': 'The Mender Artifact breaks its format; the message names the place.',
  'artifact-unsupported': 'A version, payload type or compression that Ingot does not handle.',
  'artifact-too-large': 'The artifact is larger than `--max-artifact-size`.',
  'artifact-not-signed': 'A key was given and the artifact has no signature.',
  'signature-invalid': 'The signature does not fit the manifest and the key.',
  'key-unusable': 'The key file is no RSA or ECDSA P-256 key in PEM form.',
  'compression-malformed': 'Compressed input is damaged or ends too early.',
  'path-refused': 'A name inside an archive or image would lead outside its folder.',
  'file-not-found': 'No such file, here or inside the image.',
  'not-authorized': 'The token is absent, expired or unknown. `ingot login` gets a new one.',
  'not-allowed': 'The account may see this but not change it.',
  'request-invalid': 'A value in the request is outside what it may be; the message names it.',
  'request-too-large': 'The request body is over its limit.',
  'range-not-satisfiable': 'The range begins after the end of the file.',
  'daemon-unreachable': "Nothing answers at the profile's URL. Is `ingot serve` running?",
  'daemon-protocol': 'The answer is not one of an Ingot daemon of this version.',
  'profile-missing':
    'No profile tells which daemon to use. Start `ingot serve` on this machine, or run `ingot login`.',
  'settings-invalid': 'A setting has a value that it cannot have; the message names it.',
  'content-changed':
    'The file is not the one that the download or the reading began with; start again.',
  'too-many-requests':
    'Too many wrong secrets, or too many uploads at once. Wait a minute and try again.',
  'offset-mismatch':
    'An upload goes on at another byte: the fact `offsetBytes`. Ask with HEAD, and send from there.',
  'client-not-found': 'The account has no API client with this id, or it was destroyed.',
  'ssh-failed': 'ssh could not log in or lost the connection; its own words are in the message.',
  'remote-refused': 'The device lacks a tool or a right that the capture needs.',
  'frame-malformed': 'The stream from the device is damaged or ends early.',
};
