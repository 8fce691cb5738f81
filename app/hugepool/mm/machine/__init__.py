"""The data: units, errors, one machine as plain arrays and dataclasses."""
