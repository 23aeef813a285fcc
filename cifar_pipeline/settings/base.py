"""What every settings type is made of: immutable, locked against unknown keys, and a few number types."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]


OpenFraction = Annotated[float, Field(gt=0, lt=1)]


Positive = Annotated[float, Field(gt=0)]


NAME = "[a-z][a-z0-9_]*"
"""What names of recipes, searches, groups and ensembles look like: they become file names, job names
and part of shell commands."""
Name = Annotated[str, Field(pattern=f"^{NAME}$")]
Count = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """Base of everything read from params.yaml: immutable, and no key is ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)
