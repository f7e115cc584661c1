import os
import ssl
import subprocess
import sys
import threading

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from transport_wire import Certificates, make_certificates  # noqa: F401 - one is a fixture

from polyai_sync.errors import ConfigurationError
from polyai_sync.transport import trust
from polyai_sync.transport.trust import ssl_context


@pytest.fixture
def bundle(certificates: Certificates, tmp_path):
    path = tmp_path / "bundle.pem"
    certificates.ca.cert_pem.write_to_path(str(path))
    return path


def test_one_context_per_configuration(bundle):
    assert ssl_context(str(bundle)) is ssl_context(str(bundle))
    assert ssl_context(True) is ssl_context()
    assert ssl_context(True) is not ssl_context(str(bundle))
    assert ssl_context(False) is not ssl_context(True)


def test_peers_are_verified_unless_the_caller_says_otherwise(bundle):
    for context in (ssl_context(True), ssl_context(str(bundle))):
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert context.check_hostname
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    careless = ssl_context(False)
    assert careless.verify_mode == ssl.CERT_NONE
    assert not careless.check_hostname


def test_a_bundle_or_a_directory_is_trusted(bundle, tmp_path):
    assert len(ssl_context(str(bundle)).get_ca_certs()) == 1
    assert ssl_context(str(tmp_path)) is ssl_context(str(tmp_path))
    assert len(ssl_context(True).get_ca_certs()) > 50


def test_a_renewed_bundle_counts_from_the_next_connection_on(bundle):
    old = ssl_context(str(bundle))
    os.utime(bundle, ns=(1, 1))
    assert ssl_context(str(bundle)) is not old


def test_few_contexts_are_kept(bundle):
    for instant in range(20):
        os.utime(bundle, ns=(instant, instant))
        ssl_context(str(bundle))
    assert len(trust._contexts) <= 8


@pytest.mark.parametrize("cert", [None, "client"])
def test_a_path_that_does_not_exist_is_named(bundle, cert, tmp_path):
    missing = str(tmp_path / "nowhere.pem")
    with pytest.raises(ConfigurationError, match=r"nowhere\.pem") as caught:
        ssl_context(str(bundle), missing) if cert else ssl_context(missing)
    assert caught.value.__cause__ is None


def test_a_file_that_holds_no_certificate_is_named(tmp_path):
    junk = tmp_path / "junk.pem"
    junk.write_text("not a certificate")
    with pytest.raises(ConfigurationError, match=r"CA bundle .*junk\.pem"):
        ssl_context(str(junk))
    with pytest.raises(ConfigurationError, match=r"client certificate .*junk\.pem"):
        ssl_context(True, str(junk))


def test_an_encrypted_key_does_not_ask_on_the_terminal(certificates, tmp_path):
    issued = certificates.ca.issue_cert("client@example.com")
    key = load_pem_private_key(issued.private_key_pem.bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    path = tmp_path / "locked.pem"
    path.write_bytes(locked + issued.cert_chain_pems[0].bytes())
    with pytest.raises(ConfigurationError, match="encrypted"):
        ssl_context(True, str(path))


def test_a_client_certificate_may_be_one_file_or_two(certificates, tmp_path):
    issued = certificates.ca.issue_cert("client@example.com")
    both, chain, key = (str(tmp_path / name) for name in ("both.pem", "chain.pem", "key.pem"))
    issued.private_key_and_cert_chain_pem.write_to_path(both)
    issued.cert_chain_pems[0].write_to_path(chain)
    issued.private_key_pem.write_to_path(key)
    assert ssl_context(True, both) is ssl_context(True, both)
    assert ssl_context(True, (chain, key)) is ssl_context(True, (chain, key))
    assert ssl_context(True, both) is not ssl_context(True, (chain, key))


def test_many_threads_make_one(bundle):
    os.utime(bundle, ns=(99, 99))
    found = []
    threads = [threading.Thread(target=lambda: found.append(ssl_context(str(bundle)))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1


def test_a_shared_context_is_not_written_to_by_a_connection():
    context = ssl_context(True)
    # urllib3 sets them at each connect, while another thread may be copying the list inside OpenSSL.
    assert context.set_alpn_protocols(["h2"]) is None
    assert "set_alpn_protocols" in vars(context)


def test_a_fork_does_not_inherit_a_held_lock():
    code = """
import os
from polyai_sync.transport import trust
trust._lock.acquire()
pid = os.fork()
if pid == 0:
    trust.ssl_context(True)
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "7"
