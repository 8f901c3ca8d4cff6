import sys, cbor2
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cwt import COSE, COSEKey

DIRECTORY, FORMAT = sys.argv[1:]
read = lambda name: open(DIRECTORY + "/" + name, "rb").read()


def cose_key(public):
    if isinstance(public, ed25519.Ed25519PublicKey):
        return {1: 1, 3: -8, -1: 6, -2: public.public_bytes(Encoding.Raw, PublicFormat.Raw)}
    point = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return {1: 2, 3: -7, -1: 1, -2: point[1:33], -3: point[33:]}


def token(signed, key, kid=None):
    """The claims of a COSE_Sign1 whose signature this key verifies."""
    assert signed.tag == 18, signed.tag
    parameters = dict(key) if kid is None else {**key, 2: kid}
    claims = cbor2.loads(COSE.new().decode(cbor2.dumps(signed), COSEKey.new(parameters)))
    assert claims.tag == 61, claims.tag
    return claims.value


tsm, platform, rot = x509.load_pem_x509_certificates(read("chain.pem"))
root = x509.load_der_x509_certificate(read("root.der"))
for certificate, issuer in [(tsm, platform), (platform, rot), (rot, root), (root, root)]:
    certificate.verify_directly_issued_by(issuer)
evidence = read("evidence.bin")
if FORMAT == "cbor":
    certificate = token(cbor2.loads(evidence), cose_key(tsm.public_key()))
    evidence = certificate[-70010]
else:
    leaf = x509.load_der_x509_certificate(evidence)
    leaf.verify_directly_issued_by(tsm)
    extension = leaf.extensions.get_extension_for_oid(x509.ObjectIdentifier("2.23.133.5.4.6"))
    assert extension.critical
    uccs = cbor2.loads(extension.value.value)
    assert uccs.tag == 601
    evidence = uccs.value
assert list(evidence) == [266]
tokens = evidence[266]
kid = cbor2.loads(tokens["platform"].value[0])[4]
of_platform = token(tokens["platform"], cose_key(rot.public_key()), kid)
key = cbor2.loads(of_platform[-70000])
assert key == cose_key(platform.public_key())
of_tsm = token(tokens["tsm"], key)
key = cbor2.loads(of_tsm[-70004])
assert key == cose_key(tsm.public_key())
of_tvm = token(tokens["tvm"], key)
assert of_tvm[10] == read("inblob.bin")
assert of_platform[265] == "https://riscv.org/TBD" and of_platform[-70002] == 2
if FORMAT == "x509":
    assert cbor2.loads(of_tvm[-70005]) == cose_key(leaf.public_key())
for register in of_tvm[-70006] + of_tvm[-70009]:
    print(register[1], register[3], register[2].hex())
