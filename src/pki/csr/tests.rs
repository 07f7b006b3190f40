use std::time::{Duration, Instant};

use super::*;
use crate::pki::der::{BIT_STRING, INTEGER, OCTET_STRING, element, sequence};
use crate::pki::openssl::{Folder, KeyKind};

fn dns(name: &str) -> Identifier {
    Identifier::Dns(name.to_owned())
}

/// A CSR made by openssl: `options` go to `openssl req`.
fn request(folder: &Folder, key: KeyKind, options: &str) -> Vec<u8> {
    folder.key("k.pem", key);
    folder.run(&format!("req -new -key k.pem -outform DER -out r.der {options}"));
    std::fs::read(folder.path("r.der")).unwrap()
}

fn parse(der: &[u8]) -> Result<Csr, CsrError> {
    Csr::parse(der, &KeyType::ALL)
}

const TWO_NAMES: &str = "-subj /CN=WWW.a.test -addext subjectAltName=DNS:b.TEST,DNS:www.a.test";

#[test]
fn ord_10_names_are_common_name_and_alternative_names_normalised() {
    let folder = Folder::new();
    let der = request(&folder, KeyKind::P256, TWO_NAMES);
    let csr = parse(&der).unwrap();
    assert_eq!(csr.names, BTreeSet::from([dns("www.a.test"), dns("b.test")]));
    // The key is what openssl says it is, octet for octet.
    folder.run("pkey -in k.pem -pubout -outform DER -out k.der");
    let spki = std::fs::read(folder.path("k.der")).unwrap();
    assert_eq!(csr.public_key, spki);
    assert!(folder.run("dgst -sha256 -r k.der").starts_with(&csr.key_sha256));

    for (options, expected) in [
        ("-subj / -addext subjectAltName=DNS:*.a.test", vec![dns("*.a.test")]),
        ("-subj /CN=a.test/O=Ignored", vec![dns("a.test")]),
        ("-subj /CN=a.test/CN=b.test", vec![dns("a.test"), dns("b.test")]),
        ("-multivalue-rdn -subj /O=x+CN=a.test", vec![dns("a.test")]),
        ("-subj /", vec![]),
        (
            "-subj /CN=192.0.2.7 -addext subjectAltName=IP:192.0.2.7,IP:2001:DB8::7,DNS:a.test",
            vec![
                Identifier::parse("ip", "192.0.2.7").unwrap(),
                Identifier::parse("ip", "2001:db8::7").unwrap(),
                dns("a.test"),
            ],
        ),
    ] {
        let csr = parse(&request(&folder, KeyKind::P256, options)).unwrap();
        assert_eq!(csr.names, expected.into_iter().collect(), "{options}");
    }
}

#[test]
fn ord_10_other_names_are_refused() {
    let folder = Folder::new();
    for (options, expected) in [
        ("-subj / -addext subjectAltName=DNS:a.test,email:a@a.test", CsrError::NameKind),
        ("-subj / -addext subjectAltName=URI:http://a.test/", CsrError::NameKind),
        ("-subj / -addext subjectAltName=RID:1.2.3", CsrError::NameKind),
        ("-subj /CN=My_Server", CsrError::CommonName("My_Server".into())),
        (
            "-subj / -addext subjectAltName=DNS:a_b.test",
            CsrError::Identifier { name: "a_b.test".into(), why: IdentifierError::Character },
        ),
        (
            "-subj / -addext subjectAltName=DNS:192.0.2.1",
            CsrError::Identifier { name: "192.0.2.1".into(), why: IdentifierError::IpAsDns },
        ),
    ] {
        assert_eq!(parse(&request(&folder, KeyKind::P256, options)), Err(expected), "{options}");
    }
}

#[test]
fn ord_11_every_kind_of_key_with_every_hash() {
    let folder = Folder::new();
    for (key, kind, hashes) in [
        (KeyKind::P256, KeyType::P256, &["-sha256", "-sha384", "-sha512"][..]),
        (KeyKind::P384, KeyType::P384, &["-sha256", "-sha384", "-sha512"]),
        (KeyKind::P521, KeyType::P521, &["-sha256", "-sha384", "-sha512"]),
        (KeyKind::Rsa(2048), KeyType::Rsa2048, &["-sha256", "-sha384", "-sha512"]),
        (KeyKind::Rsa(3072), KeyType::Rsa3072, &["-sha256"]),
        (KeyKind::Ed25519, KeyType::Ed25519, &[""]),
    ] {
        for hash in hashes {
            let der = request(&folder, key, &format!("{TWO_NAMES} {hash}"));
            assert_eq!(parse(&der).map(|csr| csr.key_type), Ok(kind), "{kind:?} {hash}");
            let others: Vec<KeyType> = KeyType::ALL.into_iter().filter(|other| *other != kind).collect();
            let refused = Csr::parse(&der, &others).expect_err("not allowed");
            assert!(matches!(&refused, CsrError::KeyType { found, .. } if *found == kind));
        }
    }
}

#[test]
fn ord_11_keys_and_signatures_that_are_not_taken() {
    let folder = Folder::new();
    let unsupported = CsrError::Signature(SignatureError::Unsupported);
    for (key, options, expected) in [
        (KeyKind::Rsa(2048), "-sha1", unsupported.clone()),
        (KeyKind::P256, "-sha1", unsupported.clone()),
        (KeyKind::Rsa(2048), "-sigopt rsa_padding_mode:pss", unsupported),
        (KeyKind::RsaPss, "", CsrError::PublicKey(KeyError::Unsupported)),
        (KeyKind::Secp256k1, "", CsrError::PublicKey(KeyError::Unsupported)),
        (KeyKind::Rsa(1024), "", CsrError::PublicKey(KeyError::RsaSize(1024))),
        (KeyKind::RsaExponent3, "", CsrError::PublicKey(KeyError::Exponent)),
    ] {
        let refused = parse(&request(&folder, key, &format!("{TWO_NAMES} {options}"))).unwrap_err();
        assert_eq!(refused, expected, "{key:?} {options}");
    }
}

#[test]
fn ord_11_keys_on_the_list_are_weak() {
    let folder = Folder::new();
    let csr = parse(&request(&folder, KeyKind::Rsa(2048), TWO_NAMES)).unwrap();
    assert_eq!(csr.check_listed(&WeakKeys::default()), Ok(()));
    let modulus = folder.run("rsa -in k.pem -noout -modulus");
    let sha1 = folder.run_with_input("sha1 -r", format!("{}\n", modulus.trim()).as_bytes());
    std::fs::write(folder.path("list"), &sha1[20..40]).unwrap();
    let list = WeakKeys::from_files(&[folder.path("list")]).unwrap();
    assert_eq!(csr.check_listed(&list), Err(CsrError::WeakKey(Weakness::Debian)));
}

#[test]
fn ord_10_the_der_is_exact_and_the_signature_holds() {
    let folder = Folder::new();
    let der = request(&folder, KeyKind::P256, TWO_NAMES);
    let mut trailing = der.clone();
    trailing.push(0);
    assert_eq!(parse(&trailing), Err(CsrError::Malformed(DerError::Trailing)));
    assert_eq!(parse(&der[..der.len() - 1]), Err(CsrError::Malformed(DerError::Length)));
    assert_eq!(parse(&[]), Err(CsrError::Malformed(DerError::Truncated)));
    assert_eq!(parse(&vec![0x30; MAX_CSR + 1]), Err(CsrError::TooLong));
    // Another name of the same length; and another signature.
    let place = der.windows(6).position(|w| w == b"b.TEST").unwrap();
    let mut renamed = der.clone();
    renamed[place] = b'c';
    assert_eq!(parse(&renamed), Err(CsrError::Signature(SignatureError::Wrong)));
    let mut broken = der.clone();
    *broken.last_mut().unwrap() ^= 1;
    assert_eq!(parse(&broken), Err(CsrError::Signature(SignatureError::Wrong)));
    // A point that is not on the curve.
    let csr = parse(&der).unwrap();
    let place = der.windows(csr.public_key.len()).position(|w| w == csr.public_key).unwrap();
    let mut off_curve = der;
    off_curve[place + csr.public_key.len() - 1] ^= 1;
    assert_eq!(parse(&off_curve), Err(CsrError::Signature(SignatureError::NotAKey)));
}

#[test]
fn ord_10_what_every_tool_adds_is_ignored() {
    let folder = Folder::new();
    let plain = parse(&request(&folder, KeyKind::P256, TWO_NAMES)).unwrap().names;
    for more in [
        "-addext basicConstraints=critical,CA:FALSE -addext keyUsage=critical,digitalSignature,keyCertSign",
        "-addext basicConstraints=CA:FALSE,pathlen:0",
        "-addext extendedKeyUsage=critical,serverAuth,codeSigning",
        "-addext subjectKeyIdentifier=hash",
        "-addext nsComment=made-by-hand -addext 1.2.3.4=DER:0500",
    ] {
        let csr = parse(&request(&folder, KeyKind::P256, &format!("{TWO_NAMES} {more}")));
        assert_eq!(csr.map(|csr| csr.names), Ok(plain.clone()), "{more}");
    }
}

#[test]
fn ord_10_what_would_not_be_granted_is_refused() {
    let folder = Folder::new();
    let critical = |oid: &str| CsrError::CriticalExtension(oid.to_owned());
    for (more, expected) in [
        ("-addext basicConstraints=critical,CA:TRUE -addext keyUsage=keyCertSign", CsrError::Authority),
        ("-addext basicConstraints=CA:TRUE,pathlen:0", CsrError::Authority),
        ("-addext tlsfeature=status_request", CsrError::MustStaple),
        ("-addext tlsfeature=critical,status_request,status_request_v2", CsrError::MustStaple),
        ("-addext 1.2.3.4=critical,DER:0500", critical("1.2.3.4")),
        ("-addext nameConstraints=critical,permitted;DNS:a.test", critical("2.5.29.30")),
        ("-addext certificatePolicies=critical,1.2.3", critical("2.5.29.32")),
        ("-addext basicConstraints=DER:3003020100FF", CsrError::Malformed(DerError::Trailing)),
    ] {
        let refused = parse(&request(&folder, KeyKind::P256, &format!("{TWO_NAMES} {more}")));
        assert_eq!(refused, Err(expected), "{more}");
    }
}

#[test]
fn thumbprints_tell_an_account_key_from_others() {
    let folder = Folder::new();
    let first = parse(&request(&folder, KeyKind::P256, TWO_NAMES)).unwrap();
    let again = parse(&request(&folder, KeyKind::P256, "-subj /CN=c.test")).unwrap();
    assert_ne!(first.key_thumbprint, again.key_thumbprint, "the folder makes a new key each time");
    assert_eq!(first.key_thumbprint.len(), 43);
}

/// A small generator of numbers (xorshift), the same on every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

fn mutate(der: &mut Vec<u8>, numbers: &mut Numbers) {
    for _ in 0..=numbers.below(3) {
        let place = numbers.below(der.len().max(1));
        match numbers.below(6) {
            _ if der.is_empty() => der.push(0x30),
            0 => der[place] ^= 1 << numbers.below(8),
            1 => der[place] = numbers.below(256) as u8,
            2 => drop(der.remove(place)),
            3 => der.insert(place, [0, 0x30, 0x7f, 0x80, 0x82, 0xff][numbers.below(6)]),
            4 => der.truncate(place),
            _ => der.extend_from_within(place..),
        }
    }
}

#[test]
fn no_octets_make_the_reader_panic_and_what_it_takes_another_reader_takes_too() {
    let started = Instant::now();
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/csr");
    let mut seeds: Vec<_> = std::fs::read_dir(corpus)
        .unwrap()
        .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .collect();
    seeds.sort();
    assert!(seeds.len() >= 8);
    let accepted = seeds.iter().filter(|der| agrees(der)).count();
    assert!(accepted >= 5, "{accepted}");
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for round in 0..5_000 {
        let mut der = seeds[round % seeds.len()].clone();
        mutate(&mut der, &mut numbers);
        agrees(&der);
    }
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}

/// Parses; if that succeeds, x509-parser must read the same key from it. Whether it succeeded.
fn agrees(der: &[u8]) -> bool {
    use x509_parser::prelude::{FromDer, X509CertificationRequest};
    let Ok(csr) = parse(der) else { return false };
    let (rest, other) = X509CertificationRequest::from_der(der).expect("read by both");
    assert!(rest.is_empty());
    assert_eq!(other.certification_request_info.subject_pki.raw, csr.public_key);
    true
}

/// A CSR put together from its parts and signed with a new Ed25519 key; `fields` are those after the key.
fn composed(version: u8, subject: &[u8], fields: &[u8]) -> Vec<u8> {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
    let key = Ed25519KeyPair::generate().unwrap();
    let algorithm = b"\x30\x05\x06\x03\x2b\x65\x70".to_vec();
    let bits = |octets: &[u8]| element(BIT_STRING, &[&[0], octets].concat());
    let public_key = sequence(&[algorithm.clone(), bits(key.public_key().as_ref())]);
    let info = sequence(&[element(INTEGER, &[version]), subject.to_vec(), public_key, fields.to_vec()]);
    let signature = bits(key.sign(&info).as_ref());
    sequence(&[info, algorithm, signature])
}

/// An attribute that requests these extensions, each an identifier's last octets under 2.5.29 and a value.
fn extension_request(extensions: &[Vec<u8>]) -> Vec<u8> {
    let kind = element(OID, b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x0e");
    sequence(&[kind, element(SET, &sequence(extensions))])
}

fn alternative_name(tag: u8, name: &[u8]) -> Vec<u8> {
    let names = sequence(&[element(tag, name)]);
    sequence(&[element(OID, b"\x55\x1d\x11"), element(OCTET_STRING, &names)])
}

#[test]
fn ord_10_nothing_is_asked_for_twice() {
    let subject = sequence(&[]);
    let attributes = |attributes: &[Vec<u8>]| element(0xa0, &attributes.concat());
    let (a, b) = (alternative_name(0x82, b"a.test"), alternative_name(0x82, b"b.test"));
    let once = composed(0, &subject, &attributes(&[extension_request(std::slice::from_ref(&a))]));
    assert_eq!(parse(&once).map(|csr| csr.names), Ok(BTreeSet::from([dns("a.test")])));
    for twice in [
        attributes(&[extension_request(&[a.clone(), b.clone()])]),
        attributes(&[extension_request(std::slice::from_ref(&a)), extension_request(&[b])]),
        attributes(&[extension_request(&[a]), extension_request(&[])]),
    ] {
        assert_eq!(parse(&composed(0, &subject, &twice)), Err(CsrError::Repeated));
    }
}

/// A subject with this common name; `tag` is its type of string.
fn subject(tag: u8, name: &[u8]) -> Vec<u8> {
    let attribute = sequence(&[element(OID, b"\x55\x04\x03"), element(tag, name)]);
    sequence(&[element(SET, &attribute)])
}

#[test]
fn ord_10_versions_of_old_clients_are_read_as_0() {
    let name = subject(0x0c, b"a.test");
    for version in [0, 1, 2] {
        assert!(parse(&composed(version, &name, &[])).is_ok(), "{version}");
    }
    assert_eq!(parse(&composed(3, &name, &[])), Err(CsrError::Version));
    // The very octets of certbot 1.21 and of Ruby's acme-client 2.0.9.
    for (file, names) in [
        ("certbot-1.21", &["a.example.com", "*.example.com"][..]),
        ("ruby-acme-client-2.0.9", &["a.example.com", "b.example.com"]),
    ] {
        let der = std::fs::read(format!("{}/fuzz/corpus/csr/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert_eq!(
            parse(&der).map(|csr| csr.names),
            Ok(names.iter().map(|name| dns(name)).collect()),
            "{file}"
        );
    }
}

#[test]
fn ord_10_common_names_in_every_type_of_directory_string() {
    let wide = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_be_bytes).collect() };
    let wider = |text: &str| -> Vec<u8> { text.chars().flat_map(|c| u32::from(c).to_be_bytes()).collect() };
    for name in ["a.test", "*.a.test", "192.0.2.7"] {
        let expected = if name.starts_with('1') { Identifier::parse("ip", name).unwrap() } else { dns(name) };
        let narrow = name.as_bytes().to_vec();
        for (tag, text) in [
            (0x0c, narrow.clone()),
            (0x13, narrow.clone()),
            (0x14, narrow.clone()),
            (0x16, narrow),
            (0x1c, wider(name)),
            (0x1e, wide(name)),
        ] {
            let csr = parse(&composed(0, &subject(tag, &text), &element(0xa0, &[])));
            assert_eq!(csr.map(|csr| csr.names), Ok(BTreeSet::from([expected.clone()])), "{tag:02x} {name}");
        }
    }
    // What is wrong is told as text.
    let refused = parse(&composed(0, &subject(0x1e, &wide("My Server")), &[]));
    assert_eq!(refused, Err(CsrError::CommonName("My Server".into())));
}

#[test]
fn ord_11_ecdsa_may_have_null_parameters() {
    let folder = Folder::new();
    let der = request(&folder, KeyKind::P256, TWO_NAMES);
    let mut outer = Reader::new(&der);
    let mut parts = outer.enter(SEQUENCE).unwrap();
    let info = parts.element().unwrap().raw.to_vec();
    let algorithm = parts.element().unwrap().content;
    let signature = parts.element().unwrap().raw.to_vec();
    let with = |parameters: &[u8]| {
        let algorithm = element(SEQUENCE, &[algorithm, parameters].concat());
        parse(&sequence(&[info.clone(), algorithm, signature.clone()])).map(|csr| csr.key_type)
    };
    assert_eq!(with(b""), Ok(KeyType::P256));
    assert_eq!(with(b"\x05\x00"), Ok(KeyType::P256));
    for wrong in [&b"\x05\x01\x00"[..], b"\x05\x00\x05\x00", b"\x04\x00"] {
        assert_eq!(with(wrong), Err(CsrError::Signature(SignatureError::Unsupported)));
    }
}

#[test]
fn ord_10_odd_forms() {
    let names = |der: &[u8]| parse(der).map(|csr| csr.names);
    let one = || Ok(BTreeSet::from([dns("a.test")]));
    // No attributes at all.
    assert_eq!(names(&composed(0, &subject(0x0c, b"a.test"), &[])), one());
    assert_eq!(names(&composed(0, &subject(0x0c, b""), &[])), Ok(BTreeSet::new()));
    // A name with an octet that ends strings elsewhere, and strings that are none.
    for (tag, name) in [
        (0x0c, &b"a.test\0.b.test"[..]),
        (0x0c, b"a.test "),
        (0x0c, b"a.test\xff"),
        (0x1e, b"\0a\0.\0t\0\0"),
        (0x1e, b"\0a\0.\0"),
        (0x1e, b"\xd8\x00\0a"),
        (0x1c, b"\0\0\0a\0\0\0.\0\0\0"),
        (0x1c, b"\x7f\0\0a"),
        (0x04, b"a.test"),
    ] {
        let refused = parse(&composed(0, &subject(tag, name), &[]));
        assert!(matches!(refused, Err(CsrError::CommonName(_))), "{refused:?}");
    }
    for octets in [&[192, 0, 2][..], &[0; 8], &[]] {
        let attributes = element(0xa0, &extension_request(&[alternative_name(0x87, octets)]));
        let refused = parse(&composed(0, &sequence(&[]), &attributes));
        assert!(
            matches!(refused, Err(CsrError::Identifier { why: IdentifierError::Address, .. })),
            "{refused:?}"
        );
    }
    // A field after the attributes, and one after an extension's value.
    let more = [element(0xa0, &[]), element(0xa1, &[])].concat();
    let longer =
        extension_request(&[sequence(&[element(OID, b"\x2a"), element(OCTET_STRING, b""), vec![5, 0]])]);
    for fields in [more, element(0xa0, &longer)] {
        let refused = parse(&composed(0, &sequence(&[]), &fields));
        assert_eq!(refused, Err(CsrError::Malformed(DerError::Trailing)));
    }
}
