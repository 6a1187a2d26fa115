"""Orders that cost nothing and restrict nobody, once each: a test changes what it is about with `replace`."""

from __future__ import annotations

from typing import Final

from poolwright.poco.orders import AppOrder, DatasetOrder, RequestOrder, WorkerpoolOrder
from poolwright.poco.tags import NO_TAG
from poolwright.poco.types import Address, Hash32, NRlc

_NOBODY: Final = Address.zero()
_SALT: Final = Hash32.zero()

APP_ORDER: Final = AppOrder(
    app=_NOBODY,
    appprice=NRlc(0),
    volume=1,
    tag=NO_TAG,
    datasetrestrict=_NOBODY,
    workerpoolrestrict=_NOBODY,
    requesterrestrict=_NOBODY,
    salt=_SALT,
)
DATASET_ORDER: Final = DatasetOrder(
    dataset=_NOBODY,
    datasetprice=NRlc(0),
    volume=1,
    tag=NO_TAG,
    apprestrict=_NOBODY,
    workerpoolrestrict=_NOBODY,
    requesterrestrict=_NOBODY,
    salt=_SALT,
)
POOL_ORDER: Final = WorkerpoolOrder(
    workerpool=_NOBODY,
    workerpoolprice=NRlc(0),
    volume=1,
    tag=NO_TAG,
    category=0,
    trust=0,
    apprestrict=_NOBODY,
    datasetrestrict=_NOBODY,
    requesterrestrict=_NOBODY,
    salt=_SALT,
)
REQUEST_ORDER: Final = RequestOrder(
    app=_NOBODY,
    appmaxprice=NRlc(0),
    dataset=_NOBODY,
    datasetmaxprice=NRlc(0),
    workerpool=_NOBODY,
    workerpoolmaxprice=NRlc(0),
    requester=_NOBODY,
    volume=1,
    tag=NO_TAG,
    category=0,
    trust=0,
    beneficiary=_NOBODY,
    callback=_NOBODY,
    params="{}",
    salt=_SALT,
)
