"""tram-station keygen, image, verify: what the office does before a firmware update goes to stations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from station_config.errors import StationConfigError
from station_config.output import JsonOption, explained, out, print_json

if TYPE_CHECKING:
    from station_config.image import Image

app = typer.Typer()


@app.command()
def keygen(
    path: Annotated[Path, typer.Option("--out", help="Name of the key; .pem and .pub.pem are added.")],
    bits: Annotated[int, typer.Option("--bits", help="2048 or 3072.")] = 3072,
    encrypt: Annotated[bool, typer.Option("--encrypt", help="Ask for a passphrase for the private key.")] = False,
) -> None:
    """Make the key pair that firmware images are signed with. The private half stays in the office.

    Example: tram-station keygen --out update-2026
    """
    passphrase = typer.prompt("passphrase", hide_input=True, confirmation_prompt=True) if encrypt else ""
    with explained():
        from station_config.keys import generate

        private, public = (path.with_name(path.name + end) for end in (".pem", ".pub.pem"))
        generate(private, public, bits, passphrase)
    out.print(f"[green]ok[/green] {private} signs images: keep it secret, and a copy of it in another place")
    out.print(f"   {public} goes onto the boards: tram-station flash --key {public}")


@app.command()
def image(
    key: Annotated[Path, typer.Option("--key", help="The private key that signs, a PEM file.")],
    path: Annotated[Path, typer.Option("--out", help="The image file to write.")],
    replaces: Annotated[
        str,
        typer.Option("--replaces", help="A version it may replace although it is not newer, to go back: 0.3.0."),
    ] = "0.0.0",
    firmware: Annotated[
        Path | None, typer.Option("--firmware", help="Folder of the firmware's source; the installed one if not given.")
    ] = None,
    ask: Annotated[bool, typer.Option("--passphrase", help="Ask for the private key's passphrase.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compile the firmware and sign it, as one file that stations take over their uplink.

    Example: tram-station image --key update-2026.pem --out firmware-0.2.0.trf
    """
    passphrase = typer.prompt("passphrase", hide_input=True) if ask else ""
    with explained():
        from station_config.image import build, parse_version, verify
        from station_config.keys import load_private

        try:
            over = parse_version(replaces)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--replaces") from None
        signer = load_private(key, passphrase)
        data = build(signer, over, firmware)
        about = verify(data, [signer.public_key()])
        try:
            path.write_bytes(data)
        except OSError as error:
            raise StationConfigError(f"{path}: cannot be written: {error.strerror}") from None
    _show(path, about, len(data), as_json)


@app.command()
def verify(
    path: Annotated[Path, typer.Argument(help="An image file.")],
    key: Annotated[list[Path], typer.Option("--key", help="A public key, PEM; may be given more than once.")],
    as_json: JsonOption = False,
) -> None:
    """Check an image as a board with these keys would, and say what is in it. Exit code 1: a board would refuse it.

    Example: tram-station verify firmware-0.2.0.trf --key update-2026.pub.pem
    """
    with explained():
        from station_config.image import verify as verify_image
        from station_config.keys import load_public

        try:
            data = path.read_bytes()
        except OSError as error:
            raise StationConfigError(f"{path}: cannot be read: {error.strerror}") from None
        about = verify_image(data, [load_public(file) for file in key])
    _show(path, about, len(data), as_json)


def _show(path: Path, about: Image, size: int, as_json: bool) -> None:
    told: dict[str, Any] = {
        "file": str(path),
        "version": ".".join(map(str, about.version)),
        "replaces": ".".join(map(str, about.replaces)) if any(about.replaces) else None,
        "bytes": size,
        "files": len(about.files),
        "sha256": about.sha256,
    }
    if as_json:
        print_json(told)
        return
    over = f", also over {told['replaces']}" if told["replaces"] else ""
    out.print(f"[green]ok[/green] {path}: firmware {told['version']}{over}, {told['files']} modules, {size} bytes")
    out.print(f"   SHA-256 {about.sha256}")
