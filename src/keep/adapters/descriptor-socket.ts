import { randomBytes, timingSafeEqual } from 'node:crypto';
import { closeSync } from 'node:fs';
import koffi from 'koffi';

const libc = koffi.load('libc.so.6');
const rawSocket = libc.func('int socket(int domain, int type, int protocol)');
const rawBind = libc.func('int bind(int fd, const void *address, uint32_t length)');
const rawSendmsg = libc.func('int64_t sendmsg(int fd, const void *message, int flags)');
const rawRecvmsg = libc.func('int64_t recvmsg(int fd, void *message, int flags)');

/** @see socket(2), unix(7), cmsg(3); the numbers are the same on x86-64 and arm64 */
const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_PEEK = 0x2;
const MSG_CTRUNC = 0x8;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x4000_0000;

/** `struct msghdr`, `struct iovec`, and the head of a `struct cmsghdr`, on 64-bit machines. */
const MESSAGE_BYTES = 56;
const VECTOR_BYTES = 16;
const CONTROL_HEAD_BYTES = 16;
const DESCRIPTOR_BYTES = 4;
/** A file that is read is one; one that is written is two: with O_DIRECT and without. */
const MAX_DESCRIPTORS = 2;

const MAX_KEY_BYTES = 256;
/** Strangers may fill the socket with messages; it takes about ten before senders must wait. */
const MAX_STRANGERS = 64;

/** Takes descriptors from other processes of this machine, and network namespace. */
export interface DescriptorSocket extends Disposable {
  /** In the abstract namespace: nothing in the filesystem, gone with the process. */
  readonly name: string;
  /** @returns the descriptors that were sent with this key, now the caller's, or undefined */
  receive(key: string): readonly number[] | undefined;
}

/**
 * A message and what it points at, kept together: native code sees addresses only, and all of it
 * lives as long as the message.
 */
class Message {
  readonly #text: Buffer;
  readonly #control: Buffer;
  readonly #vector = Buffer.alloc(VECTOR_BYTES);
  /** Held only so that it stays where native code finds it. */
  protected readonly address: Buffer | undefined;
  readonly header: Buffer = Buffer.alloc(MESSAGE_BYTES);

  /** @param count of the descriptors that it has room for */
  constructor(text: Buffer, count: number, address?: Buffer) {
    this.#text = text;
    this.#control = Buffer.alloc(CONTROL_HEAD_BYTES + Math.ceil(count / 2) * 2 * DESCRIPTOR_BYTES);
    this.address = address;
    this.#vector.writeBigUInt64LE(koffi.address(text), 0);
    this.#vector.writeBigUInt64LE(BigInt(text.byteLength), 8);
    if (address !== undefined) {
      this.header.writeBigUInt64LE(koffi.address(address), 0);
      this.header.writeUInt32LE(address.byteLength, 8);
    }
    this.header.writeBigUInt64LE(koffi.address(this.#vector), 16);
    this.header.writeBigUInt64LE(1n, 24);
    this.header.writeBigUInt64LE(koffi.address(this.#control), 32);
    this.header.writeBigUInt64LE(BigInt(this.#control.byteLength), 40);
  }

  carry(descriptors: readonly number[]): void {
    const lengthBytes = CONTROL_HEAD_BYTES + descriptors.length * DESCRIPTOR_BYTES;
    this.#control.writeBigUInt64LE(BigInt(lengthBytes), 0);
    this.#control.writeInt32LE(SOL_SOCKET, 8);
    this.#control.writeInt32LE(SCM_RIGHTS, 12);
    for (const [i, descriptor] of descriptors.entries()) {
      this.#control.writeInt32LE(descriptor, CONTROL_HEAD_BYTES + i * DESCRIPTOR_BYTES);
    }
  }

  /** @returns the descriptors that came with it: as many as there was room for */
  get carried(): number[] {
    const lengthBytes = Number(this.header.readBigUInt64LE(40));
    if (lengthBytes < CONTROL_HEAD_BYTES) return [];
    const isRights =
      this.#control.readInt32LE(8) === SOL_SOCKET && this.#control.readInt32LE(12) === SCM_RIGHTS;
    if (!isRights) return [];
    const endByte = Math.min(Number(this.#control.readBigUInt64LE(0)), this.#control.byteLength);
    const count = Math.floor((endByte - CONTROL_HEAD_BYTES) / DESCRIPTOR_BYTES);
    return Array.from({ length: count }, (_, i) =>
      this.#control.readInt32LE(CONTROL_HEAD_BYTES + i * DESCRIPTOR_BYTES),
    );
  }

  get isCut(): boolean {
    return (this.header.readInt32LE(48) & MSG_CTRUNC) !== 0;
  }

  textOf(lengthBytes: number): Buffer {
    return this.#text.subarray(0, lengthBytes);
  }
}

/**
 * Opens a socket under a name that nobody can guess.
 *
 * @throws Error when the system gives none
 */
export function openDescriptorSocket(): DescriptorSocket {
  const name = `ingot-${randomBytes(16).toString('hex')}`;
  const fd = newSocket();
  const address = addressOf(name);
  if (rawBind(fd, address, address.byteLength) !== 0) {
    const errno = koffi.errno();
    closeSync(fd);
    throw new Error(`bind of @${name}: errno ${errno}`);
  }
  let isOpen = true;
  return {
    name,
    receive: (key) => receiveFrom(fd, Buffer.from(key, 'utf8')),
    [Symbol.dispose]: () => {
      if (!isOpen) return;
      isOpen = false;
      closeSync(fd);
    },
  };
}

/**
 * Lets whoever has the socket of this name use descriptors; the caller keeps its own.
 *
 * @param descriptors one or two
 * @returns whether they were taken: false when no such socket is in this network namespace
 */
export function sendDescriptors(
  name: string,
  key: string,
  descriptors: readonly number[],
): boolean {
  const fd = newSocket();
  try {
    const message = new Message(Buffer.from(key, 'utf8'), descriptors.length, addressOf(name));
    message.carry(descriptors);
    const sent = Number(rawSendmsg(fd, message.header, MSG_DONTWAIT | MSG_NOSIGNAL));
    return message.textOf(Math.max(0, sent)).byteLength === key.length;
  } finally {
    closeSync(fd);
  }
}

function receiveFrom(fd: number, key: Buffer): readonly number[] | undefined {
  for (let strangers = 0; strangers < MAX_STRANGERS; strangers++) {
    const text = receiveMessage(fd, 0, MSG_PEEK)?.text;
    if (text === undefined) return undefined;
    const isOurs = text.byteLength === key.byteLength && timingSafeEqual(text, key);
    // A descriptor without the key never becomes one of this process: a filesystem that is somebody's
    // program could make closing it wait for ever.
    const message = receiveMessage(fd, isOurs ? MAX_DESCRIPTORS : 0, MSG_CMSG_CLOEXEC);
    const descriptors = message?.carried ?? [];
    if (descriptors.length > 0 && message?.isCut === false) return descriptors;
    for (const descriptor of descriptors) closeSync(descriptor);
  }
  return undefined;
}

/**
 * Receives the next message, if there is one.
 *
 * @param count of the descriptors that are taken; the kernel drops others
 */
function receiveMessage(
  fd: number,
  count: number,
  flags: number,
): { readonly text: Buffer; readonly carried: number[]; readonly isCut: boolean } | undefined {
  const message = new Message(Buffer.alloc(MAX_KEY_BYTES), count);
  const lengthBytes = Number(rawRecvmsg(fd, message.header, MSG_DONTWAIT | flags));
  if (lengthBytes < 0) return undefined;
  return { text: message.textOf(lengthBytes), carried: message.carried, isCut: message.isCut };
}

function newSocket(): number {
  const fd = rawSocket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) throw new Error(`socket: errno ${koffi.errno()}`);
  return fd;
}

/** `struct sockaddr_un` of an abstract name: the name ends where the address ends. */
function addressOf(name: string): Buffer {
  const family = Buffer.alloc(2);
  family.writeUInt16LE(AF_UNIX);
  return Buffer.concat([family, Buffer.from(`\0${name}`, 'latin1')]);
}
