"""What every settings type is made of: an immutable base, and names and numbers with limits."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# `strict`, so that neither `true` nor `"5"` is taken for a number.
Fraction = Annotated[float, Field(ge=0, le=1, strict=True)]
OpenFraction = Annotated[float, Field(gt=0, lt=1, strict=True)]
Positive = Annotated[float, Field(gt=0, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]
NotNegative = Annotated[int, Field(ge=0, strict=True)]
Seed = Annotated[int, Field(ge=0, lt=2**32, strict=True)]
"""What every library's generator of random numbers takes."""

NAME = "[a-z][a-z0-9_]*"
"""The pattern of the names of recipes, searches, groups and ensembles, which become file names, job
names and parts of shell commands."""
NOT_A_NAME = (
    "is not a name; names begin with a letter from a to z, and go on with such letters, digits and "
    "underscores"
)
Name = Annotated[str, Field(pattern=f"^{NAME}$")]


class Settings(BaseModel):
    """Base of everything that is read from YAML: immutable, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
