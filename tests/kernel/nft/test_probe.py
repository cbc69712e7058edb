"""What the kernel lacks is named."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.errors import MissingFeature
from kpx.kernel.nft.expressions import Unknown
from kpx.kernel.nft.objects import Chain, Rule
from kpx.kernel.nft.probe import Feature, check_features, features
from kpx.kernel.nft.transaction import add
from kpx.kernel.nft.wire import NfFamily


@pytest.mark.parametrize("family", [NfFamily.IP, NfFamily.IP6])
def test_this_kernel_has_it_all_and_is_left_as_it_was(nft: Nft, family: NfFamily) -> None:
    before = nft.generation()
    check_features(nft, family)
    assert nft.tables() == []
    assert nft.generation() == before


def test_a_missing_expression_is_named(nft: Nft) -> None:
    future = Feature("time travel", "CONFIG_NFT_TARDIS", (add(Chain("a")), add(Rule("a", (Unknown("tardis"),)))))
    with pytest.raises(MissingFeature, match=r"lacks time travel in family ip6 \(CONFIG_NFT_TARDIS\): .*tardis"):
        check_features(nft, NfFamily.IP6, (*features(NfFamily.IP6), future))


def test_the_lack_of_the_right_is_no_lack_of_the_kernel(nft: Nft) -> None:
    assert nft
    program = (
        "import os; os.setuid(65534)\n"
        "from kpx.kernel.nft.probe import *\n"
        "try: check_features(Nft(), NfFamily.IP)\n"
        "except NetlinkError as error: raise SystemExit(error.errno)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, check=False)
    assert ran.returncode == errno.EPERM
