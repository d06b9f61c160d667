# Taking values out of a decoded JSON file and collecting what is wrong with them, each with its place; and what has to
# fit together in a configuration. Only in memory while one is read.


class Check:
    # Takes values out of the content and collects what is wrong with them.
    def __init__(self):
        self.faults = []
        self._known = {}  # numbers and tuples: all that are equal become one object

    def fault(self, where, text):
        if len(self.faults) < 20:
            self.faults.append("%s: %s" % (where, text))

    def table(self, value, where, keys):
        # value as a dict without unknown keys; {} when it is something else
        if not isinstance(value, dict):
            self.fault(where, "must be a table")
            return {}
        for key in value:
            if key not in keys:
                self.fault("%s.%s" % (where, key), "is not known")
        return value

    def rows(self, value, where, most):
        if not isinstance(value, list) or len(value) > most:
            self.fault(where, "must be a list of at most %d" % most)
            return ()
        return value

    def integer(self, table, key, where, low, high, default=None):
        value = table.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.fault("%s.%s" % (where, key), "must be a whole number %d..%d, not %r" % (low, high, value))
            return low
        return value

    def integer_or_none(self, table, key, where, low, high):
        return None if table.get(key) is None else self.integer(table, key, where, low, high)

    def number(self, table, key, where, default):
        value = table.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
            self.fault("%s.%s" % (where, key), "must be a number, not %r" % (value,))
            return default
        return self._known.setdefault(value, value)

    def choice(self, table, key, where, choices, default=None):
        value = table.get(key, default)
        if value not in choices:
            self.fault("%s.%s" % (where, key), "must be one of %s, not %r" % (list(choices), value))
            return choices[0]
        return value

    def integers(self, table, key, where):
        value = table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(entry, int) for entry in value):
            self.fault("%s.%s" % (where, key), "must be a list of whole numbers")
            return ()
        value = tuple(value)
        return self._known.setdefault(value, value)


def check_together(check, configuration, most_fields):
    # What no row can see alone.
    sensors, pulses = configuration.sensors, configuration.pulses
    numbers = [row.number for row in sensors + list(pulses)]
    if len(set(numbers)) != len(numbers):
        check.fault("sensors", "two sensors have the same number")
    if configuration.sdi12 is None and any(sensor.measurements for sensor in sensors):
        check.fault("station.sdi12", "must be the port of the sensors that have measurements")
    number = len(pulses)
    for sensor in sensors:
        fields = [field for part in sensor.reads + sensor.measurements for field in part.fields]
        number += len(fields)
        _check_fields(check, "sensor %d" % sensor.number, fields, sensor, configuration.sample_s)
    if number > most_fields:
        check.fault("sensors", "%d fields, the station has room for %d" % (number, most_fields))
    ports = [port for port in (configuration.bus, configuration.uplink, configuration.sdi12) if port is not None]
    _check_pins(check, sensors, pulses, ports)


def _check_fields(check, where, fields, sensor, sample_s):
    parameters = [field.parameter for field in fields]
    if len(set(parameters)) != len(parameters):
        check.fault(where, "two fields have the same parameter")
    for field in fields:
        if field.speed is not None and field.speed not in parameters:
            check.fault(where, "no field has the speed's parameter %d" % field.speed)
        if field.statistic == "gust" and sample_s * sensor.every != 1:
            check.fault(where, "a gust of 3 s needs a sample every second")
        if field.statistic == "direction" and sensor.burst is not None:
            check.fault(where, "a direction is not read in bursts: sample it more often")


def _check_pins(check, sensors, pulses, ports):
    # One pin may switch several sensors, and that is all it may be used for.
    used = [pin for port in ports for pin in (port.tx, port.rx, port.de)]
    switches = {sensor.power for sensor in sensors if sensor.power is not None}
    for pin in list(switches) + [pulse.pin for pulse in pulses]:
        if pin in used:
            check.fault("pin %d" % pin, "is used twice")
        used.append(pin)
