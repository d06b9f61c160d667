"""Keys for firmware updates: the office signs images with the private one, the boards know the public ones.

RSA with 3072 bits (2048 is read too) and exponent 65537, as PEM files that openssl understands. On a board the public
keys are one file, /update_keys: the moduli in hex, one a line, because that is all the firmware needs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from station_config.errors import KeyRefused

BITS = (2048, 3072)
EXPONENT = 65537
MOST_KEYS = 4  # the board reads 4 KiB of them


def generate(private: Path, public: Path, bits: int = 3072, passphrase: str = "") -> None:
    """Make a key pair, the private half readable by its owner only. Raises KeyRefused, also for files that exist."""
    if bits not in BITS:
        raise KeyRefused(f"a key of {bits} bits: boards take {' or '.join(map(str, BITS))}")
    key = rsa.generate_private_key(EXPONENT, bits)
    write_new(private, _private_pem(key, passphrase), 0o600)
    write_new(
        public,
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        0o644,
    )


def load_private(path: Path, passphrase: str = "") -> rsa.RSAPrivateKey:
    """Return the private key of a PEM file. Raises KeyRefused."""
    try:
        key = serialization.load_pem_private_key(read_key(path), passphrase.encode() or None)
    except TypeError:
        wanted = "none, it is not encrypted" if passphrase else "one, it is encrypted"
        raise KeyRefused(f"{path}: the passphrase: it wants {wanted}") from None
    except (ValueError, UnsupportedAlgorithm):
        raise KeyRefused(f"{path}: no private key can be read from it; wrong file or wrong passphrase?") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise KeyRefused(f"{path}: not an RSA key; make one with tram-station keygen")
    _check(path, key.public_key())
    return key


def load_public(path: Path) -> rsa.RSAPublicKey:
    """Return the public key of a PEM file. Raises KeyRefused."""
    try:
        key = serialization.load_pem_public_key(read_key(path))
    except (ValueError, UnsupportedAlgorithm):
        raise KeyRefused(f"{path}: no public key; take the .pub.pem file that tram-station keygen made") from None
    if not isinstance(key, rsa.RSAPublicKey):
        raise KeyRefused(f"{path}: not an RSA key; make one with tram-station keygen")
    _check(path, key)
    return key


def board_keys(keys: Iterable[rsa.RSAPublicKey]) -> bytes:
    """Return the content of /update_keys on a board. Raises KeyRefused for more than it takes."""
    moduli = [(key.public_numbers().n, key.key_size // 4) for key in keys]
    if len(moduli) > MOST_KEYS:
        raise KeyRefused(f"{len(moduli)} keys: a board takes {MOST_KEYS} at most")
    return "".join(f"{modulus:0{digits}x}\n" for modulus, digits in moduli).encode()


def _check(path: Path, key: rsa.RSAPublicKey) -> None:
    if key.key_size not in BITS or key.public_numbers().e != EXPONENT:
        wanted = " or ".join(map(str, BITS))
        raise KeyRefused(
            f"{path}: an RSA key of {key.key_size} bits; boards take {wanted} bits and exponent {EXPONENT}"
        )


def _private_pem(key: rsa.RSAPrivateKey, passphrase: str) -> bytes:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase.encode())
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def write_new(path: Path, data: bytes, mode: int) -> None:
    """Write a key's file that does not exist yet, with these rights from the start. Raises KeyRefused."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise KeyRefused(f"{path} exists already and is left as it is; take another name") from None
    except OSError as error:
        raise KeyRefused(f"{path}: cannot be written: {error.strerror}") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def read_key(path: Path) -> bytes:
    """Return the bytes of a key's file. Raises KeyRefused."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeyRefused(f"{path}: cannot be read: {error.strerror}") from None
