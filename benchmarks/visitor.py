"""A visitor of the page without a browser: Streamlit's messages over its WebSocket.

What the browser's part of Streamlit does on the network, and no more: nothing is drawn, and none of
its scripts and fonts are fetched.
"""

import asyncio
import json
import uuid
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import requests
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.Common_pb2 import FileURLs, UploadedFileInfo
from streamlit.proto.Element_pb2 import Element
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.asyncio.client import ClientConnection, connect

COOKIE = "_streamlit_xsrf"
WIDGETS = ("file_uploader", "selectbox", "pagination", "button_group")


class VisitError(Exception):
    """The page failed, or never finished."""


@dataclass
class Seen:
    """What a run of the page has shown."""

    text: str = ""
    widgets: dict[str, str] = field(default_factory=dict)
    """ids of the widgets by label, or by kind where they have none"""


class Visitor:
    """One visitor with a session of its own.

    Args:
        address: such as `http://127.0.0.1:8501`.
        patience: seconds until an answer counts as an error.
    """

    def __init__(self, address: str, patience: float = 30) -> None:
        self._address, self._patience = address, patience
        self._http = requests.Session()
        self._states: dict[str, WidgetState] = {}
        self._page = ""
        self._socket: ClientConnection | None = None
        self._session = ""
        self.seen = Seen()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(
            self._http.get, f"{self._address}/_stcore/health", timeout=self._patience
        )
        token = self._http.cookies[COOKIE]
        self._socket = await connect(
            self._address.replace("http", "ws", 1) + "/_stcore/stream",
            subprotocols=["streamlit", token],  # type: ignore[list-item]
            additional_headers={"Cookie": f"{COOKIE}={token}"},
            origin=self._address,  # type: ignore[arg-type]
            max_size=None,
            open_timeout=self._patience,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._socket
        await self._socket.close()
        self._http.close()

    async def go(self, page: str = "", query: str = "") -> Seen:
        """Open one of the views by its name in the address."""
        self._page, self._states = page, {}
        return await self._rerun(query)

    async def select(self, label: str, option: str) -> Seen:
        """Choose an option of the selectbox with this label."""
        state = self._state(label)
        state.string_value = option
        return await self._rerun()

    async def turn_to(self, page: int) -> Seen:
        """Choose one of the pages of what is shown in pages."""
        self._state("pagination").int_value = page
        return await self._rerun()

    async def upload(self, label: str, *files: tuple[str, bytes]) -> Seen:
        """Replace what was uploaded by these files, names and contents."""
        request = BackMsg()
        request.file_urls_request.request_id = str(uuid.uuid4())
        request.file_urls_request.session_id = self._session
        request.file_urls_request.file_names.extend(name for name, _ in files)
        await self._send(request)
        urls: list[FileURLs] = []
        while not urls:
            message = await self._receive()
            urls = list(message.file_urls_response.file_urls)
        state = self._state(label)
        state.file_uploader_state_value.ClearField("uploaded_file_info")
        for (name, content), url in zip(files, urls, strict=True):
            answer = await asyncio.to_thread(
                self._http.put,
                self._address + url.upload_url,
                files={"file": (name, content)},
                headers={"X-Xsrftoken": self._http.cookies[COOKIE]},
                timeout=self._patience,
            )
            if answer.status_code != 204:
                raise VisitError(f"upload refused: {answer.status_code} {answer.text[:200]}")
            state.file_uploader_state_value.uploaded_file_info.append(
                UploadedFileInfo(name=name, size=len(content), file_id=url.file_id, file_urls=url)
            )
        return await self._rerun()

    def _state(self, label: str) -> WidgetState:
        found = self.seen.widgets[label]
        return self._states.setdefault(found, WidgetState(id=found))

    async def _rerun(self, query: str = "") -> Seen:
        request = BackMsg()
        state = request.rerun_script
        state.query_string = query
        state.page_name = self._page
        state.widget_states.widgets.extend(self._states.values())
        await self._send(request)
        self.seen = seen = Seen()
        while True:
            message = await self._receive()
            kind = message.WhichOneof("type")
            if kind == "new_session":
                self._session = message.new_session.initialize.session_id
            elif kind == "delta":
                _note(message.delta.new_element, seen)
            elif kind == "script_finished":
                if message.script_finished == ForwardMsg.FINISHED_EARLY_FOR_RERUN:
                    continue
                if message.script_finished != ForwardMsg.FINISHED_SUCCESSFULLY:
                    raise VisitError(f"the script ended with {message.script_finished}")
                return seen

    async def _send(self, message: BackMsg) -> None:
        assert self._socket
        await self._socket.send(message.SerializeToString())

    async def _receive(self) -> ForwardMsg:
        assert self._socket
        try:
            data = await asyncio.wait_for(self._socket.recv(), self._patience)
        except TimeoutError:
            raise VisitError(f"no answer within {self._patience:g} s") from None
        return ForwardMsg.FromString(data if isinstance(data, bytes) else data.encode())


def _note(element: Element, seen: Seen) -> None:
    kind = element.WhichOneof("type")
    if kind == "exception":
        raise VisitError(json.dumps(element.exception.message))
    if kind == "alert":
        seen.text += element.alert.body + "\n"
    elif kind == "html":
        seen.text += element.html.body + "\n"
    elif kind in WIDGETS:
        widget = getattr(element, kind)
        seen.widgets[getattr(widget, "label", "") or kind] = widget.id
