"""Certificates for one test: files for clients to trust, and server contexts for one name or IPv4 address."""

import contextlib
import datetime
import ssl
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def certificate_for(host: str, folder: Path) -> tuple[Path, ssl.SSLContext]:
    """Return a self-signed certificate of `host` as a PEM file for clients to trust, and the context that serves it."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _certify(host, key, issuer=host, signed_by=key, is_authority=True)
    return _write(folder / "ca.pem", certificate), _serve(folder, certificate, key)


def issued_certificate_for(host: str, folder: Path) -> tuple[Path, ssl.SSLContext]:
    """Return an authority's certificate as a PEM file, and the context that serves the one it issued to `host`.

    A proxy that opens TLS connections serves such certificates. Not every client takes an authority's own for a host's.
    """
    authority = ec.generate_private_key(ec.SECP256R1())
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _certify(host, key, issuer="authority", signed_by=authority, is_authority=False)
    own = _certify("authority", authority, issuer="authority", signed_by=authority, is_authority=True)
    return _write(folder / "authority.pem", own), _serve(folder, certificate, key)


def _certify(
    host: str,
    key: ec.EllipticCurvePrivateKey,
    *,
    issuer: str,
    signed_by: ec.EllipticCurvePrivateKey,
    is_authority: bool,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([_named(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=0 if is_authority else None), critical=True)
        .add_extension(_usage(is_authority), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signed_by.public_key()), critical=False)
        .sign(signed_by, hashes.SHA256())
    )


def _usage(is_authority: bool) -> x509.KeyUsage:
    """Return what RFC 5280 wants to be said; Python from 3.13 on takes no authority's certificate without it."""
    return x509.KeyUsage(
        digital_signature=True, key_cert_sign=is_authority, crl_sign=is_authority, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _named(host: str) -> x509.GeneralName:
    with contextlib.suppress(AddressValueError):
        return x509.IPAddress(IPv4Address(host))
    return x509.DNSName(host)


def _write(path: Path, certificate: x509.Certificate) -> Path:
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return path


def _serve(folder: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> ssl.SSLContext:
    private = folder / "key.pem"
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_write(folder / "certificate.pem", certificate), private)
    return context
