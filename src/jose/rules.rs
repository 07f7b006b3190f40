//! The rules of signed requests, each by its id, and the RFCs' own vectors.

use base64ct::{Base64UrlUnpadded, Encoding};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::acme::problem::{Problem, ProblemType};
use crate::jose::signer::{Signer, cases};
use crate::jose::{Algorithm, Error, Jws, KeyReference, PublicKey};

const RFC_7638_N: &str = "\
        0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJE\
        CPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2Q\
        vzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6\
        WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";

/// ES256's key with a header of the test's own making.
fn with_header(header: &str) -> Result<Jws, Error> {
    Jws::parse(Signer::of(Algorithm::ES256).sign(header, b"{}").to_string().as_bytes())
}

/// The usual header with one member set.
fn with_member(member: &str, value: Value) -> Result<Jws, Error> {
    let mut header = Signer::of(Algorithm::ES256).header();
    header[member] = value;
    with_header(&header.to_string())
}

fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> ProblemType {
    result.unwrap_err().kind()
}

fn signature_verifies(jwk: &Value, message: &str, signature: &str) -> bool {
    let signature = Base64UrlUnpadded::decode_vec(signature).unwrap();
    PublicKey::from_jwk(jwk).unwrap().accepts(message.as_bytes(), &signature)
}

#[test]
fn the_thumbprint_of_rfc_7638_and_of_rfc_8037() {
    let rsa = json!({"kty": "RSA", "n": RFC_7638_N, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"});
    let key = PublicKey::from_jwk(&rsa).unwrap();
    assert_eq!(key.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    assert_eq!(key.to_jwk(), format!(r#"{{"e":"AQAB","kty":"RSA","n":"{RFC_7638_N}"}}"#));
    let ed25519 = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    let key = PublicKey::from_jwk(&ed25519).unwrap();
    assert_eq!(key.thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}

#[test]
fn the_signatures_of_rfc_7515_and_of_rfc_8037() {
    let payload =
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let es256 = json!({"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                       "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
    let signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    assert!(signature_verifies(&es256, &format!("eyJhbGciOiJFUzI1NiJ9.{payload}"), signature));
    assert!(!signature_verifies(&es256, &format!("eyJhbGciOiJFUzI1NiJ8.{payload}"), signature));
    let rs256 = json!({"kty": "RSA", "e": "AQAB", "n": "\
        ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0B\
        m4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5\
        z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7\
        aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"});
    let signature = "\
        cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2F\
        p5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQB\
        MHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeY\
        I2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    assert!(signature_verifies(&rs256, &format!("eyJhbGciOiJSUzI1NiJ9.{payload}"), signature));
    let eddsa = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    let message = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    assert!(signature_verifies(&eddsa, message, signature));
}

#[test]
fn jws_01_only_the_flattened_form_is_read() {
    let good = Signer::of(Algorithm::ES256).sign(&Signer::of(Algorithm::ES256).header().to_string(), b"{}");
    let text = |part: &str| good[part].as_str().unwrap().to_owned();
    let (protected, payload, signature) = (text("protected"), text("payload"), text("signature"));
    let mut unprotected = good.clone();
    unprotected["header"] = json!({"kid": "x"});
    let mut null_header = good.clone();
    null_header["header"] = Value::Null;
    let mut both = good.clone();
    both["signatures"] = json!([]);
    let general =
        json!({"payload": payload, "signatures": [{"protected": protected, "signature": signature}]});
    let compact = format!("{protected}.{payload}.{signature}");
    for body in [
        unprotected.to_string(),
        null_header.to_string(),
        both.to_string(),
        general.to_string(),
        compact.clone(),
        json!(compact).to_string(),
        json!([good]).to_string(),
        format!("{good}{good}"),
        format!("{good},"),
        String::new(),
    ] {
        assert_eq!(kind(Jws::parse(body.as_bytes())), ProblemType::Malformed, "{body}");
    }
    for part in ["protected", "payload", "signature"] {
        let mut without = good.clone();
        without.as_object_mut().unwrap().remove(part);
        assert_eq!(Jws::parse(without.to_string().as_bytes()).unwrap_err(), Error::MissingMember(part));
        for wrong in [Value::Null, json!(1), json!({"alg": "ES256"})] {
            let mut typed = good.clone();
            typed[part] = wrong;
            let error = Jws::parse(typed.to_string().as_bytes()).unwrap_err();
            assert_eq!(error, Error::WrongType { member: part, expected: "a string" });
        }
        let twice = format!(r#"{{"{part}":"",{}"#, &good.to_string()[1..]);
        assert_eq!(Jws::parse(twice.as_bytes()).unwrap_err(), Error::DuplicateMember(part.into()));
    }
}

#[test]
fn jws_01_white_space_and_the_order_of_members_do_not_matter() {
    let signer = Signer::of(Algorithm::ES256);
    let header = format!(
        "\n{{ \"jwk\" : {:#},\r\n\t\"url\":\"https:\\/\\/ca.test/new\" , \"alg\":\"ES256\" }} ",
        signer.jwk
    );
    let good = signer.sign(&header, b"{}");
    let body = format!(
        "\r\n {{\n  \"signature\" : {},\n\t\"protected\": {} , \"payload\":{}}}\n\n",
        good["signature"], good["protected"], good["payload"]
    );
    let jws = Jws::parse(body.as_bytes()).unwrap();
    assert_eq!(jws.verify(&signer.key()).unwrap(), b"{}");
    assert_eq!((jws.url.as_deref(), jws.nonce), (Some("https://ca.test/new"), None));
    let pretty = format!("{good:#}");
    assert!(Jws::parse(pretty.as_bytes()).is_ok_and(|jws| jws.verify(&signer.key()).is_ok()));
    assert!(Jws::from_value(&good).is_ok_and(|jws| jws.verify(&signer.key()).is_ok()));
}

#[test]
fn jws_02_no_other_algorithm_is_accepted_and_the_problem_lists_those_that_are() {
    for name in
        ["none", "HS256", "HS512", "PS256", "PS512", "RS384", "RS512", "ES256K", "es256", "Ed25519", ""]
    {
        let error = with_member("alg", name.into()).unwrap_err();
        let problem = Problem::from(error);
        assert_eq!(problem.kind, ProblemType::BadSignatureAlgorithm, "{name}");
        assert_eq!((problem.status, problem.algorithms), (400, Algorithm::ALLOWED));
    }
    assert_eq!(kind(with_member("alg", json!(["ES256"]))), ProblemType::Malformed);
    assert_eq!(with_header(r#"{"kid":"x"}"#).unwrap_err(), Error::MissingMember("alg"));
}

#[test]
fn jws_03_the_algorithm_must_be_that_of_the_key() {
    for signer in Signer::all() {
        for other in Signer::all().iter().filter(|other| other.algorithm != signer.algorithm) {
            let mut header = signer.header();
            header["alg"] = other.algorithm.as_str().into();
            let error = Jws::parse(signer.sign(&header.to_string(), b"").to_string().as_bytes()).unwrap_err();
            assert_eq!(
                error,
                Error::AlgorithmAgainstJwk { named: other.algorithm, needed: signer.algorithm }
            );
            assert_eq!(error.kind(), ProblemType::BadPublicKey);
            let error = Jws::parse(&signer.request(b"")).unwrap().verify(&other.key()).unwrap_err();
            assert_eq!(
                error,
                Error::AlgorithmAgainstAccountKey { named: signer.algorithm, needed: other.algorithm }
            );
            assert_eq!(error.kind(), ProblemType::Malformed);
        }
    }
}

#[test]
fn jws_04_exactly_one_of_jwk_and_kid() {
    assert_eq!(with_member("kid", "https://ca.test/acct/1".into()).unwrap_err(), Error::JwkAndKid);
    assert_eq!(with_header(r#"{"alg":"ES256","url":"u"}"#).unwrap_err(), Error::NeitherJwkNorKid);
    for neither in [r#"{"alg":"ES256","kid":null}"#, r#"{"alg":"ES256","jwk":null,"kid":null}"#] {
        assert_eq!(with_header(neither).unwrap_err(), Error::NeitherJwkNorKid);
    }
    assert_eq!(kind(with_member("kid", json!(1))), ProblemType::Malformed);
    assert_eq!(kind(with_member("jwk", "x".into())), ProblemType::Malformed);
    let by_kid = with_header(r#"{"alg":"ES256","kid":"https://ca.test/acct/1","nonce":"AA"}"#).unwrap();
    assert_eq!(by_kid.key, KeyReference::Kid("https://ca.test/acct/1".into()));
    assert_eq!(by_kid.verify(&Signer::of(Algorithm::ES256).key()).unwrap(), b"{}");
}

#[test]
fn jws_04_null_is_absent() {
    let by_jwk = with_member("kid", Value::Null).unwrap();
    assert!(matches!(by_jwk.key, KeyReference::Jwk(_)));
    let by_kid = with_header(r#"{"alg":"ES256","jwk":null,"kid":"x"}"#).unwrap();
    assert_eq!(by_kid.key, KeyReference::Kid("x".into()));
}

#[test]
fn jws_07_a_nonce_is_base64url() {
    for (nonce, well_formed) in [("AA", true), ("bm9uY2Utbm9uY2U", true), ("", false), ("AA==", false)] {
        let jws = with_member("nonce", nonce.into()).unwrap();
        assert_eq!((jws.nonce_is_well_formed(), jws.nonce.as_deref()), (well_formed, Some(nonce)));
    }
    assert!(!with_member("nonce", "a+/b".into()).unwrap().nonce_is_well_formed());
    assert!(with_header(r#"{"alg":"ES256","kid":"x"}"#).unwrap().nonce.is_none());
    assert_eq!(kind(with_member("nonce", json!(1))), ProblemType::Malformed);
    assert_eq!(kind(with_member("url", json!(null))), ProblemType::Malformed);
}

#[test]
fn jws_08_crit_and_b64_are_refused_and_other_extras_ignored() {
    for crit in [json!(null), json!([]), json!(["exp"]), json!(["b64"]), json!("b64")] {
        assert_eq!(with_member("crit", crit).unwrap_err(), Error::Critical);
    }
    for b64 in [json!(null), json!(true), json!(false)] {
        assert_eq!(with_member("b64", b64).unwrap_err(), Error::UnencodedPayload);
    }
    for (extra, value) in [("x5c", json!(["MII"])), ("typ", json!(1)), ("critical", json!(["x"]))] {
        assert!(with_member(extra, value).is_ok(), "{extra}");
    }
}

#[test]
fn jws_09_base64url_is_strict() {
    let signer = Signer::of(Algorithm::EdDSA);
    let good = signer.sign(r#"{"alg":"EdDSA","kid":"x"}"#, b"{\"a\":1}");
    for part in ["protected", "payload", "signature"] {
        let text = good[part].as_str().unwrap().to_owned();
        let (head, last) = text.split_at(text.len() - 1);
        let loose = char::from(last.as_bytes()[0] + 1); // the last letter of each ends with zero bits
        assert_ne!(text.len() % 4, 0);
        for wrong in [
            format!("{text}="),
            format!("{text}=="),
            format!("{text}\n"),
            format!(" {text}"),
            format!("{}\r\n{}", &text[..8], &text[8..]),
            format!("{text}.x"),
            text[..text.len() / 4 * 4 + 1].to_owned(), // a single letter encodes no octet
            format!("{head}{loose}"),
            format!("{}+{}", &text[..3], &text[4..]),
            format!("{}/{}", &text[..3], &text[4..]),
        ] {
            let mut body = good.clone();
            body[part] = wrong.clone().into();
            let error = Jws::parse(body.to_string().as_bytes()).unwrap_err();
            assert_eq!(error, Error::Base64(part), "{wrong:?}");
        }
    }
}

#[test]
fn jws_09_duplicate_members_of_the_protected_header_are_malformed() {
    let jwk = Signer::of(Algorithm::ES256).jwk.to_string();
    let double_jwk = format!(r#"{{"kty":"EC",{}"#, &jwk[1..]);
    for header in [
        r#"{"alg":"ES256","alg":"ES256","kid":"x"}"#.to_owned(),
        r#"{"alg":"ES256","kid":"x","url":"a","\u0075rl":"b"}"#.to_owned(),
        r#"{"alg":"ES256","kid":"x","extra":{"a":1,"a":1}}"#.to_owned(),
        format!(r#"{{"alg":"ES256","jwk":{double_jwk}}}"#),
    ] {
        let error = with_header(&header).unwrap_err();
        assert!(matches!(error, Error::DuplicateMember(_)), "{header}: {error}");
        assert_eq!(error.kind(), ProblemType::Malformed);
    }
}

#[test]
fn jws_10_a_wrong_signature_is_malformed_and_yields_no_payload() {
    for signer in Signer::all() {
        let jws = Jws::parse(&signer.request(b"{}")).unwrap();
        let error = jws.verify(&Signer::stranger(signer.algorithm).key()).unwrap_err();
        assert_eq!((&error, error.kind()), (&Error::SignatureWrong, ProblemType::Malformed));
        assert!(error.to_string().contains("signature"));
    }
}

#[test]
fn jws_12_ecdsa_signatures_in_der_are_refused() {
    let signer = Signer::of(Algorithm::ES256);
    let mut body = signer.sign(&signer.header().to_string(), b"{}");
    let fixed = Base64UrlUnpadded::decode_vec(body["signature"].as_str().unwrap()).unwrap();
    let integer = |half: &[u8]| {
        let trimmed: Vec<u8> = half.iter().copied().skip_while(|octet| *octet == 0).collect();
        let pad = usize::from(trimmed[0] & 0x80 != 0);
        [vec![2, u8::try_from(trimmed.len() + pad).unwrap()], vec![0; pad], trimmed].concat()
    };
    let inner = [integer(&fixed[..32]), integer(&fixed[32..])].concat();
    let der = [vec![0x30, u8::try_from(inner.len()).unwrap()], inner].concat();
    body["signature"] = Base64UrlUnpadded::encode_string(&der).into();
    let error = Jws::parse(body.to_string().as_bytes()).unwrap().verify(&signer.key()).unwrap_err();
    assert_eq!(error, Error::SignatureWidth { algorithm: Algorithm::ES256, width: 64, sent: der.len() });
    assert_eq!(error.kind(), ProblemType::Malformed);
}

#[test]
fn jws_13_the_payload_of_post_as_get_is_empty() {
    let signer = Signer::of(Algorithm::RS256);
    assert_eq!(Jws::parse(&signer.request(b"")).unwrap().verify(&signer.key()).unwrap(), b"");
}

#[test]
fn jws_14_private_key_members_are_malformed_and_not_repeated() {
    for signer in Signer::all() {
        for member in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
            let mut header = signer.header();
            header["jwk"][member] = "c2VjcmV0".into();
            let body = signer.sign(&header.to_string(), b"{}").to_string();
            let error = Jws::parse(body.as_bytes()).unwrap_err();
            assert_eq!((&error, error.kind()), (&Error::PrivateKey, ProblemType::Malformed), "{member}");
            assert!(!format!("{error} {error:?}").contains("c2VjcmV0"));
        }
    }
    assert_eq!(PublicKey::from_jwk(&json!({"kty": "oct", "k": "AA"})).unwrap_err(), Error::PrivateKey);
}

#[test]
fn nothing_of_the_payload_is_in_debug_output() {
    let signer = Signer::of(Algorithm::ES256);
    let jws = Jws::parse(&signer.request(b"secret-payload")).unwrap();
    assert!(!format!("{jws:?}").contains(&Base64UrlUnpadded::encode_string(b"secret-payload")));
    assert!(!format!("{jws:?}").contains(&format!("{:?}", b"secret-payload")[1..20]));
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn parsing_any_octets_never_panics(body in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Jws::parse(&body);
        let _ = PublicKey::from_stored(&String::from_utf8_lossy(&body));
    }

    #[test]
    fn parsing_any_header_and_members_never_panics(
        header in "[ -~\\n]{0,120}", payload in "[A-Za-z0-9_=-]{0,60}", signature in "[A-Za-z0-9_=-]{0,90}",
    ) {
        let protected = Base64UrlUnpadded::encode_string(header.as_bytes());
        let body = json!({"protected": protected, "payload": payload, "signature": signature});
        if let Ok(jws) = Jws::parse(body.to_string().as_bytes()) {
            prop_assert!(jws.verify(&Signer::of(Algorithm::ES256).key()).is_err());
        }
    }
}
