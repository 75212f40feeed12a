"""Custom components of source-manifest. Airbyte's image expects this file beside manifest.yaml.

No stream names the class: the file is here so that an image is seen to carry it, and the stand-in for Airbyte's
base image has no Python.
"""

from dataclasses import dataclass
from typing import Any, Mapping, MutableMapping, Optional

from airbyte_cdk.sources.declarative.transformations import RecordTransformation


@dataclass
class Shout(RecordTransformation):
    """Turns a greeting's text to upper case."""

    def transform(
        self,
        record: MutableMapping[str, Any],
        config: Optional[Mapping[str, Any]] = None,
        stream_state: Optional[Mapping[str, Any]] = None,
        stream_slice: Optional[Mapping[str, Any]] = None,
    ) -> None:
        record["text"] = str(record.get("text", "")).upper()
