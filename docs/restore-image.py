#!/usr/bin/env python3
"""Restores one image from the directory of an Ingot library, with nothing but Python.

usage: restore-image.py DIRECTORY IMG-ID OUTPUT

Reads the manifest of the image, its pages and the packs (docs/formats/). Databases and keys are not
used. Every page and every chunk is compared with its SHA-256; the signature of the manifest is not
checked, because Python's standard library has no Ed25519. Damaged packs are passed over as long as
another pack has the chunk. The output is sparse: holes are not written.
"""
import hashlib
import json
import os
import struct
import sys
import zlib

HOLE = bytes(32)


def fail(text):
    sys.exit("restore-image: " + text)


def read_page(directory, digest):
    path = os.path.join(directory, "manifests", "pages", digest[:2], digest)
    with open(path, "rb") as file:
        data = file.read()
    if hashlib.sha256(data).hexdigest() != digest:
        fail("manifest page %s is damaged" % digest)
    magic, version, count, _ = struct.unpack_from("<8sIIQ", data)
    if magic != b"ingotpag" or version != 1 or len(data) != 24 + 40 * count:
        fail("manifest page %s has an unknown form" % digest)
    for i in range(count):
        yield struct.unpack_from("<32sQ", data, 24 + 40 * i)


def read_pack(path):
    """Yields digest, offset, coded bytes and plain bytes of every segment of a pack."""
    with open(path, "rb") as file:
        header = file.read(32)
        file.seek(0, os.SEEK_END)
        size = file.tell()
        if size < 88:
            return
        file.seek(size - 56)
        digest, count, flags, start, magic = struct.unpack("<32sIIQ8s", file.read(56))
        if header[:16] != b"ingotpak" + struct.pack("<II", 1, 0) or magic != b"ingotend" or flags:
            return
        if start + 56 * count + 56 != size:
            return
        file.seek(start)
        entries = file.read(56 * count)
    if hashlib.sha256(header + entries).digest() != digest:
        return
    for i in range(count):
        yield struct.unpack_from("<32sQII", entries, 56 * i)


def main():
    if len(sys.argv) != 4:
        fail("usage: restore-image.py DIRECTORY IMG-ID OUTPUT")
    directory, image, output = sys.argv[1:]
    with open(os.path.join(directory, "manifests", "images", image + ".manifest"), "rb") as file:
        root = json.loads(file.readline())
    if root["format"] != "ingot-manifest" or root["version"] != 1 or root["imageId"] != image:
        fail("the manifest of %s has an unknown form" % image)

    wanted = set()
    for page in root["pages"]:
        wanted.update(digest for digest, _ in read_page(directory, page["digest"]))
    places = {}
    packs = os.path.join(directory, "packs")
    for name in sorted(os.listdir(packs)):
        for digest, offset, coded, plain in read_pack(os.path.join(packs, name)):
            if digest in wanted:
                places.setdefault(digest, []).append((name, offset, coded, plain))

    def read_chunk(digest, length):
        for name, offset, coded, plain in places.get(digest, []):
            with open(os.path.join(packs, name), "rb") as file:
                file.seek(offset)
                data = file.read(coded)
            try:
                # Raw deflate without a final block: a decompressor gives what is there.
                data = zlib.decompressobj(-15).decompress(data, plain + 1)
            except zlib.error:
                continue
            if len(data) == length and hashlib.sha256(data).digest() == digest:
                return data
        fail("no pack has a whole copy of the chunk %s" % digest.hex())

    at = 0
    with open(output, "xb") as file:
        for page in root["pages"]:
            for digest, length in read_page(directory, page["digest"]):
                if digest != HOLE:
                    file.seek(at)
                    file.write(read_chunk(digest, length))
                at += length
        file.truncate(root["virtualSizeBytes"])
        file.flush()
        os.fsync(file.fileno())
    if at != root["virtualSizeBytes"]:
        fail("the manifest has %d of %d bytes" % (at, root["virtualSizeBytes"]))


main()
