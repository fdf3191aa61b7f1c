"""Read back what was tracked: offline runs of W&B, and TensorBoard's event files."""

import json
import struct
from pathlib import Path

KEY = "0123456789abcdef" * 2 + "01234567"  # looks like an API key
BLOCK = 32768  # of the LevelDB log format, which W&B's file has behind 7 bytes of its own


def wandb_records(folder):
    """The client's records of an offline run's folder; the client of this version has no reader in Python."""
    from wandb.proto import wandb_internal_pb2

    (path,) = Path(folder).glob("*.wandb")
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    at, parts, records = 7, b"", []
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or its last part
            records.append(wandb_internal_pb2.Record.FromString(parts))
            parts = b""
    return records


def values(items):
    """Keys and values of a record's items."""
    return {item.key or ":".join(item.nested_key): json.loads(item.value_json) for item in items}


class WandBRun:
    """An offline run: its id, what was logged in its order, and the tables by name."""

    def __init__(self, folder):
        self.folder, self.history, self.summary = Path(folder), [], {}
        for record in wandb_records(folder):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                self.id, self.project, self.name = record.run.run_id, record.run.project, record.run.display_name
            elif kind == "history":
                self.history.append(values(record.history.item))
            elif kind == "summary":
                self.summary |= values(record.summary.update)

    def curve(self, key):
        """Optimizer step and value of each time that `key` was logged."""
        return [(row["train/global_step"], row[key]) for row in self.history if key in row]

    def table(self, key):
        """The rows of a table."""
        (path,) = (row[f"{key}:path"] for row in self.history if f"{key}:path" in row)
        content = json.loads((self.folder / "files" / path).read_text())
        return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]


def wandb_runs(runs):
    """The offline runs below `results/{dataset}/runs`, in the order of their start."""
    return [WandBRun(folder) for folder in sorted(Path(runs, "wandb").glob("offline-run-*"))]


class EventFiles:
    """The one run of TensorBoard below `results/{dataset}/runs`."""

    def __init__(self, runs):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        (self.folder,) = Path(runs, "tensorboard").iterdir()
        self.found = EventAccumulator(str(self.folder), {"scalars": 0, "tensors": 0}).Reload()

    def curve(self, tag):
        """Optimizer step and value of each time that `tag` was logged."""
        return [(event.step, event.value) for event in self.found.Scalars(tag)]

    def text(self, tag):
        """A text, as it was logged last."""
        return self.found.Tensors(tag)[-1].tensor_proto.string_val[0].decode()


def holding(folder, secret):
    """The files below `folder` in which `secret` occurs."""
    return [path for path in Path(folder).rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
