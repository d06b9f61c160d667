"""Keys for commands: Ed25519, as PEM files that openssl understands.

The private one signs in the office; the public ones lie in a folder on each gateway. They are not the keys of firmware
images (station_config.keys): who may tell a gateway to fetch a log need not be able to bring code onto a board.
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from station_config.command import key_id
from station_config.errors import KeyRefused
from station_config.keys import read_key, write_new

MOST_KEYS = 32


def generate(private: Path, public: Path) -> str:
    """Make a key pair and return its id; the private half is readable by its owner only. Raises KeyRefused."""
    key = Ed25519PrivateKey.generate()
    write_new(
        private,
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        0o600,
    )
    write_new(
        public,
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        0o644,
    )
    return key_id(key.public_key())


def load_private(path: Path) -> Ed25519PrivateKey:
    """Return the private key of a PEM file. Raises KeyRefused, also when others may read the file."""
    data = read_key(path)
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise KeyRefused(f"{path}: others may read this private key; chmod 600 {path}")
    try:
        key = serialization.load_pem_private_key(data, None)
    except (TypeError, ValueError, UnsupportedAlgorithm):
        raise KeyRefused(f"{path}: no private key without a passphrase; tram-cloud command keygen makes one") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyRefused(f"{path}: not an Ed25519 key; make one with tram-cloud command keygen")
    return key


def load_public_folder(folder: Path) -> dict[str, Ed25519PublicKey]:
    """Return the public keys of a folder's .pem files by their id. Raises KeyRefused for any that is none."""
    try:
        files = sorted(folder.glob("*.pem"))
        if not folder.is_dir():
            raise KeyRefused(f"{folder}: no such folder; put the .pub.pem files of command keys there")
    except OSError as error:
        raise KeyRefused(f"{folder}: cannot be read: {error.strerror}") from None
    if len(files) > MOST_KEYS:
        raise KeyRefused(f"{folder}: {len(files)} keys, at most {MOST_KEYS} are read")
    keys = [_load_public(file) for file in files]
    return {key_id(key): key for key in keys}


def _load_public(path: Path) -> Ed25519PublicKey:
    try:
        key = serialization.load_pem_public_key(read_key(path))
    except (ValueError, UnsupportedAlgorithm):
        raise KeyRefused(f"{path}: no public key; take the .pub.pem file of tram-cloud command keygen") from None
    if not isinstance(key, Ed25519PublicKey):
        raise KeyRefused(f"{path}: not an Ed25519 key; take the .pub.pem file of tram-cloud command keygen")
    return key
