"""`tram-sim`: the simulated outside world, and the demo that runs the real chain in it.

demo    the whole chain on this machine, a page to look at, plugs to pull; --check judges itself
lines   RS-485 lines between pseudo-terminals          board   a station board: real MicroPython
world   instruments in a simulated or replayed river   link    a TCP link that can be cut
broker  an embedded MQTT broker                        phone   an SMS provider and the phone behind it
"""

from __future__ import annotations

import typer

from simulators import board, broker, demo_command, lines, link, phone, world

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, rich_markup_mode="markdown")
app.command("demo")(demo_command.command)
app.command("lines")(lines.command)
app.command("board")(board.command)
app.command("world")(world.command)
app.command("link")(link.command)
app.command("broker")(broker.command)
app.command("phone")(phone.command)
