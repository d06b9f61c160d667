"""`tram-sim`: the simulated outside world, and the demo that runs the real chain in it."""

from __future__ import annotations

import typer

from simulators import bench_command, board, broker, demo_command, lines, link, modem, phone, serial_server, world
from simulators.faults import command as faults
from simulators.fleet import command as fleet

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, rich_markup_mode="markdown")
app.command("demo")(demo_command.command)
app.command("lines")(lines.command)
app.command("board")(board.command)
app.command("world")(world.command)
app.command("link")(link.command)
app.command("broker")(broker.command)
app.command("phone")(phone.command)
app.command("modem")(modem.command)
app.command("serial-server")(serial_server.command)
app.command("faults")(faults.command)
app.command("bench")(bench_command.command)
app.command("fleet")(fleet.command)
