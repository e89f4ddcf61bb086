"""Give out certificates, or ask for one; the library does all else."""

import datetime
import hashlib
import pathlib

import ops
from charmlibs.interfaces import tls_certificates as tls

KEPT = pathlib.Path("/var/lib/tls-authority")
DAY = datetime.timedelta(days=1)


class TLSCharm(ops.CharmBase):
    """An authority on one endpoint, a server on the other."""

    def __init__(self, framework: ops.Framework):
        super().__init__(framework)
        self.authority = tls.TLSCertificatesProvidesV4(self, "authority")
        name = self.unit.name.replace("/", "-")
        self.certificates = tls.TLSCertificatesRequiresV4(
            self,
            "certificates",
            [tls.CertificateRequestAttributes(common_name=name, sans_dns=frozenset({name}))],
            refresh_events=[self.on.config_changed],
        )
        framework.observe(self.on.authority_relation_changed, self._on_asked)
        framework.observe(self.certificates.on.certificate_available, self._on_certificate)
        framework.observe(self.on.certificates_relation_broken, self._on_gone)
        framework.observe(self.on.rotate_action, self._on_rotate)
        framework.observe(self.on.renew_root_action, self._on_renew_root)
        framework.observe(self.on.revoke_action, self._on_revoke)
        framework.observe(self.on.config_changed, self._on_asked)
        framework.observe(self.on.start, self._on_start)

    def _on_start(self, _: ops.StartEvent) -> None:
        self.unit.status = ops.ActiveStatus("started")

    def _root(self) -> tuple[tls.PrivateKey, tls.Certificate]:
        KEPT.mkdir(exist_ok=True)
        key_file, certificate_file = KEPT / "ca.key", KEPT / "ca.pem"
        if not certificate_file.exists():
            key = tls.PrivateKey.generate()
            attributes = tls.CertificateRequestAttributes(common_name="a root", is_ca=True)
            root = tls.Certificate.generate_self_signed_ca(
                attributes=attributes, private_key=key, validity=100 * DAY
            )
            key_file.write_text(str(key))
            certificate_file.write_text(str(root))
        key = tls.PrivateKey.from_string(key_file.read_text())
        return key, tls.Certificate.from_string(certificate_file.read_text())

    def _on_asked(self, _: ops.EventBase) -> None:
        answers = str(self.config["answers"])
        if not self.unit.is_leader() or answers == "nothing":
            return
        key, root = self._root()
        for request in self.authority.get_outstanding_certificate_requests():
            csr = request.certificate_signing_request
            if answers != "certificates":
                self._deny(request.relation_id, csr, tls.CertificateRequestErrorCode[answers])
                continue
            signed = csr.sign(ca=root, ca_private_key=key, validity=10 * DAY)
            self.authority.set_relation_certificate(
                tls.ProviderCertificate(request.relation_id, signed, csr, root, [signed, root])
            )

    def _deny(
        self,
        relation_id: int,
        csr: tls.CertificateSigningRequest,
        code: tls.CertificateRequestErrorCode,
    ) -> None:
        error = tls.CertificateError(code=code, name=code.name, message="not a name of ours")
        self.authority.set_relation_error(tls.ProviderCertificateError(relation_id, csr, error))

    def _on_renew_root(self, _: ops.ActionEvent) -> None:
        (KEPT / "ca.pem").unlink()

    def _on_revoke(self, _: ops.ActionEvent) -> None:
        self.authority.revoke_all_certificates()

    def _on_certificate(self, event: tls.CertificateAvailableEvent) -> None:
        (found,), key = self.certificates.get_assigned_certificates()
        assert key
        assert found.certificate.matches_private_key(key)
        digest = hashlib.sha256(str(found.certificate).encode()).hexdigest()[:8]
        self.unit.status = ops.ActiveStatus(f"{found.certificate.common_name}: {digest}")

    def _on_rotate(self, _: ops.ActionEvent) -> None:
        self.certificates.regenerate_private_key()

    def _on_gone(self, _: ops.RelationBrokenEvent) -> None:
        self.unit.status = ops.ActiveStatus("no authority")


if __name__ == "__main__":
    ops.main(TLSCharm)
