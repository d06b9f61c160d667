# Taking values out of a decoded JSON file and collecting what is wrong with them, each with its place. Only in memory
# while a configuration is read.


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
