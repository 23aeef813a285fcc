"""Settings of the data: where the archive comes from, its splits, and test images to leave out."""

import re
from typing import Annotated, Any, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.paths import Workspace
from cifar_pipeline.settings.base import Count, Fraction, OpenFraction, Seed, Settings

SHA256 = "[0-9a-f]{64}"

UPSTREAM_SHA256 = "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"
"""Of cifar-100-python.tar.gz as Krizhevsky publishes it. Published lists of test images refer to
the row order of this archive."""

UPSTREAM_MEMBERS = {
    "meta": "7973b15100ade9c7d40fb424638fde48",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    "train": "16019d7e3df5f24257cddd939b257f8d",
}
"""The md5 of each file in that archive. With them a copy is recognised however it was packed."""


class Source(Settings):
    """Where the archive comes from, and what its table must look like."""

    kind: Literal["download", "generated"] = Field(
        description="the real archive, or a small one of generated images"
    )
    url: str = Field(
        "",
        description="http(s)://, file:// or a path, relative to the checkout, of an archive or of "
        "an unpacked folder; `download` only",
    )
    sha256: str = Field(
        UPSTREAM_SHA256,
        pattern=f"^{SHA256}$",
        description="expected checksum of the archive, by default upstream's; `download` only",
    )
    members: dict[str, str] = Field(
        UPSTREAM_MEMBERS,
        description="md5 of the files in the archive, by default upstream's; a copy that holds "
        "these is accepted however it is packed, and with `{}` only `sha256` counts; `download` "
        "only",
    )
    named_by_user: SkipJsonSchema[bool] = Field(
        False, exclude=True, description="set where CIFAR_ARCHIVE replaced the address"
    )
    seed: Seed = Field(0, description="decides the generated images; `generated` only")
    train_per_class: Count = Field(description="expected number of training images of each class")
    test_per_class: Count = Field(description="expected number of test images of each class")
    channel_mean: tuple[Fraction, Fraction, Fraction] | None = Field(
        None, description="expected mean of the training pixels, divided by 255; default: unchecked"
    )
    channel_std: tuple[Fraction, Fraction, Fraction] | None = Field(
        None, description="expected standard deviation of the same; default: unchecked"
    )

    @model_validator(mode="after")
    def _a_download_has_an_address(self) -> Self:
        if self.kind == "download" and not self.url:
            raise ValueError("a source that is downloaded needs a `url`")
        return self

    def located(self, address: str, sha256: str, home: Workspace) -> Self:
        """This source with what the user names in place of its own, and its path absolute.

        Args:
            address: the user's address, path or folder; empty for the source's own.
            sha256: the user's checksum; empty for the source's own.
            home: what a relative path is relative to.

        Raises: PipelineError for a checksum or a file: address that cannot be one.
        """
        if self.kind == "generated":
            return self
        url = address or self.url
        if "://" not in url or url.lower().startswith("file:"):
            url = str(home.resolve(path_of(url)))
        changes: dict[str, Any] = {"url": url, "named_by_user": bool(address)}
        sha256 = sha256.strip().lower()
        if sha256 and not re.fullmatch(SHA256, sha256):
            raise PipelineError(
                f"CIFAR_ARCHIVE_SHA256 is '{sha256:.80}', expected the 64 hexadecimal digits that "
                "`sha256sum FILE` prints"
            )
        if sha256 and sha256 != self.sha256:
            changes |= {"sha256": sha256, "members": {}}  # only that very file is meant
        return self.model_copy(update=changes)

    @property
    def shown(self) -> str:
        """The address as messages, logs and metadata may show it: without credentials."""
        return redacted(self.url) if is_remote(self.url) else self.url or self.kind


def is_remote(address: str) -> bool:
    """Whether an address is fetched over HTTP; any other is a path or a file: address."""
    return address.lower().startswith(("http://", "https://"))


def path_of(address: str) -> str:
    """The path that a file: address names; any other address as it is.

    `file:a`, `file://a` and `file:///a` are all in use, so what stands where a host name belongs is
    taken as the beginning of a path, except for `localhost`.

    Raises: PipelineError for a file: address that cannot be read as one.
    """
    if not address.lower().startswith("file:"):
        return address
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise PipelineError(
            f"the address '{address:.80}' is not one of a file ({error}); write its path instead"
        ) from None
    host = "" if parts.netloc.lower() == "localhost" else parts.netloc
    return unquote(host + parts.path)


def redacted(text: str) -> str:
    """A URL, or a message that has one in it, without what may be a credential.

    That is the user name and password, and everything after a question mark: signatures and
    tokens have too many names to be listed. Where the two cannot be told apart, more is hidden.
    """
    return re.sub(r"[?#][^\s'\")>]+", "?...", re.sub(r"//\S*@", "//***@", text))


class SplitSettings(Settings):
    """How the training images are divided."""

    validation_fraction: OpenFraction = Field(
        description="share of the training images that validation gets, of each class alike"
    )
    seed: Seed = Field(description="decides which images these are")


class PublishedList(Settings):
    """A file with indices of test images in upstream's order."""

    path: str = Field(description="a text file, relative to the checkout")
    sha256: str = Field(description="its checksum, so that another file does not pass for it")


class SubsetSettings(Settings):
    """Test images to leave out of a second accuracy, besides near-duplicates."""

    lists: dict[Annotated[str, Field(pattern="^[a-z0-9_]+$")], PublishedList] = Field(
        {}, description="published lists of test images, by name"
    )

    @model_validator(mode="after")
    def _leaves_the_built_in_subset_alone(self) -> Self:
        if "duplicates" in self.lists:
            raise ValueError(
                "`duplicates` is the subset that is found without a list; give the list another "
                "name, such as `cifair`"
            )
        return self
