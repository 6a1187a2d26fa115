"""`iexec app`: container images, registered with their checksum."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolwright.cli.iexec import apprun, publishing
from poolwright.cli.iexec.command import Noun, Outcome, Run, Shared
from poolwright.cli.iexec.errors import ValidationError
from poolwright.cli.iexec.multiaddr import stored
from poolwright.cli.iexec.resources import Creation, Found, Part, Resource, add_verbs, write_template
from poolwright.cli.iexec.values import address_of, bytes_of, hash_of, text_of
from poolwright.compute.multiaddr import location_of
from poolwright.poco import calls, views
from poolwright.poco.types import Address

if TYPE_CHECKING:
    from poolwright.cli.iexec.session import Session

COMMAND = app = Noun("app", "Describe, deploy, show and transfer apps.")


@app.verb("init", Shared.WALLET, example="iexec app init")
def init(run: Run) -> Outcome:
    """Write a template of an app into iexec.json."""
    return write_template(run, "app")


def read(part: Part) -> Creation:
    """The calldata of an app's description. Raises ValidationError."""
    kind = text_of(part.get("type"), "type")
    if kind != "DOCKER":
        raise ValidationError("type must be one of the following values: DOCKER", got=kind)
    values = (
        address_of(part.get("owner"), "owner"),
        text_of(part.get("name"), "name"),
        kind,
        stored(text_of(part.get("multiaddr"), "multiaddr"), "multiaddr"),
        hash_of(part.get("checksum"), "checksum"),
        bytes_of(part.get("mrenclave") or "", "mrenclave"),
    )
    return Creation(create=calls.create_app(*values), predict=views.predict_app(*values))


async def find(session: Session, address: Address) -> Found:
    """Read a registered app."""
    record = await session.reader.app(address)
    fields = {
        "appChecksum": str(record.checksum),
        "appMREnclave": record.mrenclave.decode(errors="replace"),
        "appMultiaddr": location_of(record.multiaddr),
        "appName": record.name,
        "appType": record.type,
    }
    return Found(owner=record.owner, fields=fields, shown=fields)


RESOURCE = Resource(kind="app", registry=lambda hub: hub.app_registry, read=read, find=find)
add_verbs(app, RESOURCE)
publishing.add_verbs(app, "app")
apprun.add_verbs(app)
