//! RSA keys that nobody should have, made for these tests, and arithmetic that signs with them all the same (the
//! library refuses to).

use num_bigint::BigUint;
use rcgen::{PublicKeyData, SigningKey};

use crate::support::keys::sha256;

/// A weak RSA key.
#[derive(Clone)]
pub struct WeakRsa {
    n: BigUint,
    e: BigUint,
    d: BigUint,
    pkcs1: Vec<u8>,
}

impl WeakRsa {
    /// An RSA key of 1024 bits.
    pub fn short() -> Self {
        Self::read(SHORT, 65537)
    }

    /// An RSA key of 2048 bits with the public exponent 3.
    pub fn small_exponent() -> Self {
        Self::read(SMALL_EXPONENT, 3)
    }

    /// An RSA key of 2048 bits whose primes are neighbours.
    pub fn close_primes() -> Self {
        Self::read(CLOSE_PRIMES, 65537)
    }

    /// An RSA key of 2048 bits with the structure of CVE-2017-15361.
    pub fn roca() -> Self {
        Self::read(ROCA, 65537)
    }

    fn read([n, d]: [&str; 2], e: u32) -> Self {
        let number = |text: &str| BigUint::parse_bytes(text.as_bytes(), 16).expect("hexadecimal");
        let (n, e, d) = (number(n), BigUint::from(e), number(d));
        let pkcs1 = sequence(&[integer(&n), integer(&e)].concat());
        Self { n, e, d, pkcs1 }
    }

    /// The modulus.
    pub fn n(&self) -> Vec<u8> {
        self.n.to_bytes_be()
    }

    /// The public exponent.
    pub fn e(&self) -> Vec<u8> {
        self.e.to_bytes_be()
    }

    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017 §8.2.1).
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        const DIGEST_INFO: [u8; 19] =
            [0x30, 0x31, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 4, 0x20];
        let length = self.n().len();
        let mut encoded = vec![0, 1];
        encoded.resize(length - 1 - DIGEST_INFO.len() - 32, 0xff);
        encoded.push(0);
        encoded.extend(DIGEST_INFO);
        encoded.extend(sha256(message));
        let mut signature = BigUint::from_bytes_be(&encoded).modpow(&self.d, &self.n).to_bytes_be();
        while signature.len() < length {
            signature.insert(0, 0);
        }
        signature
    }
}

impl PublicKeyData for WeakRsa {
    fn der_bytes(&self) -> &[u8] {
        &self.pkcs1
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_RSA_SHA256
    }
}

impl SigningKey for WeakRsa {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(Self::sign(self, message))
    }
}

/// The Ed25519 key that is the neutral element: its one signature, R and S, is valid for every message.
pub struct NeutralKey;

impl NeutralKey {
    /// The public key.
    pub const OCTETS: [u8; 32] =
        [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    /// The signature of everything: R is the neutral element, and S is 0.
    pub fn signature() -> Vec<u8> {
        [Self::OCTETS, [0; 32]].concat()
    }
}

impl PublicKeyData for NeutralKey {
    fn der_bytes(&self) -> &[u8] {
        &Self::OCTETS
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

impl SigningKey for NeutralKey {
    fn sign(&self, _message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(Self::signature())
    }
}

/// Modulus and exponent of an `RSAPublicKey` in DER (RFC 8017 §A.1.1).
pub fn components(pkcs1: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (_, inner, _) = element(pkcs1);
    let (_, n, rest) = element(inner);
    let (_, e, _) = element(rest);
    let bare = |octets: &[u8]| BigUint::from_bytes_be(octets).to_bytes_be();
    (bare(n), bare(e))
}

/// The first DER element: tag, content, and what follows it.
pub fn element(der: &[u8]) -> (u8, &[u8], &[u8]) {
    let (length, start) = match der[1] {
        short @ 0..=0x7f => (usize::from(short), 2),
        long => {
            let octets = usize::from(long & 0x7f);
            let length = der[2..2 + octets].iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet));
            (length, 2 + octets)
        }
    };
    (der[0], &der[start..start + length], &der[start + length..])
}

fn integer(number: &BigUint) -> Vec<u8> {
    let mut octets = number.to_bytes_be();
    if octets[0] > 0x7f {
        octets.insert(0, 0);
    }
    [length(2, octets.len()), octets].concat()
}

fn sequence(content: &[u8]) -> Vec<u8> {
    [length(0x30, content.len()), content.to_vec()].concat()
}

fn length(tag: u8, length: usize) -> Vec<u8> {
    match u16::try_from(length).expect("short").to_be_bytes() {
        [0, low @ 0..=0x7f] => vec![tag, low],
        [0, low] => vec![tag, 0x81, low],
        [high, low] => vec![tag, 0x82, high, low],
    }
}

/// An RSA key of 1024 bits.
const SHORT: [&str; 2] = [
    "\
     a6cce36d8f6841fd3b8b9618666f8d7981cf69ed968004bbab583b259a97310460f0996a3acea2bef0254b390a467290\
     b4f28e8acdf75f0b086f0c1c207a5ff310a0993466c40fd773eec9654fcf8df700e17b118a8100c90059fe472065ee80\
     4ae7078250ae80efd51057f67ea3026593f41276b6124f30ad2c2b8c00682513\
     ",
    "\
     3d11626aa8486970872e71c3792d7a44742c36021049ca71d327b86fea0b549cdfc8f6c217c9b377e8801eec4140cd8d\
     015294b168fb1a46f5cd824781f48bcfe04ca2fd026f8511b4db2ad1a6df6898e2af5f60ccf5c64b5767c9f2fd6a161c\
     73c4be30b4c4a3d5006e33fa6c028f42a99b993f2cb8a63667cb9fbe5b7ce081\
     ",
];

/// An RSA key of 2048 bits with the public exponent 3.
const SMALL_EXPONENT: [&str; 2] = [
    "\
     9c9541b1dc5eb8ef7027f014ef04b0048b3f0b0c8e0c251df1bedc2894cbf5c15cdd340aa1b615d18119469946015890\
     dd03b129c9d1c203f714a45f6c0af3a93b71e301eab50d59a2d241827d398b071bf4119345baf4a43a193a1b7b660733\
     767984d96d8212fa7ca62a8fd9b3bd22322c67af8bf1d407f7f8a580866f2a1dac1e4fabad2a5a8c82f9815dec8c4dd8\
     b095b34f105ef73e2559d4cc7ce8a236a43a930815bdc6f875583ec9dbdc5fa045c13c7c51bc0f0c9b1c0f2dc67c9141\
     595aeccc6494f009de3a51f1457aeaa8c2f13bdb023e718a764a1612d7aba906e78262b50d300face04071cc114768fd\
     d58616b22afb0db88a0c45fb4080d84b\
     ",
    "\
     686381213d947b4a4ac54ab89f5875585cd4b2085eb2c3694bd492c5b887f92b933e22b1c1240e8bab662f10d9563b0b\
     3e02761bdbe12c02a4b86d94f2b1f7c627a1420147235e3bc1e18101a8d1075a12a2b6622e7ca31826bb7c12524404cc\
     f9a65890f3ac0ca6fdc41c5fe677d36c2172efca5d4be2affaa5c3ab044a1c12bd1d16e9199b173fae76282e05fb192a\
     5c6deabfaaac34c4a65aed8b96da9477423466f29f218b98a9d7bffda5ef0cbdc43fb6eb74ab1a8303ccafc9ca4c970d\
     4f5f66fd80b213368549aac765e2fb49bfcf446a9e296f2a395c076ae4bc56c7b527522f26b7b35d2e5725ccbbd566c6\
     5172e80bd6b225dedff01384a612aecb\
     ",
];

/// An RSA key of 2048 bits whose primes are neighbours.
const CLOSE_PRIMES: [&str; 2] = [
    "\
     d2e70342acd6242e05a5be2d5d47a16ee65ffd0da5e9c4f565ada1caf017543bb20917fba3212fda5bea6147a90a5043\
     b07a8593206999db03b645e2fb0d965f721a85723d045c6bf07830c3b2c7a91e61cde6b24586c63f272b0fb3249e544b\
     2d2938c601306c1157ce195bc7559fecdb3ac7b49caaab87041ab37f47985dd5b588615f1412a524d9d83949eb7a9571\
     2e5aacfa953598aa9c9cc15199d05362c7490d3477939f8515cfedb1cc4c0893a821a47b9a31ef05141cb1e174c1f24d\
     2a278b164b4d6b6daac6dd4111792a963a75b51d0cfbccb3db08184cb93c452f37f54ea59631e557ea1a3fc0821e763e\
     699a619ec7dd75c1f5be9f887af3ccbd\
     ",
    "\
     8f89e2d23247dc7fe62013fb540d3875fe1d3e6157966f12858d531c87a39914b7eb3083775752f64eb08a5cf753a9a5\
     282b7b55d32d8c255fb562834552ce114fdb750f772fcca73a16d3399e27fd964c02930ca9fd3c5827144baf25310d35\
     cd1acd2516121abb0303a686ac783e4c3a391b4a7586430fb55f66e32d9b29e0d94e5012745cf218e561b33a7a8d0d34\
     cc888464c085378cf04e8b8f99c0e561af24c1845323117ee88bd6da3eca39755bce8cc56a471a1a575517bcba5b408a\
     2f18772bc1f4b31b3990aba4b6136470effb070b527e7d34f7dc5a71f09aa96abc16ecaccad3c6c1b5980c37bcafae4b\
     df30b8403bfa251445e1ccf0e0895091\
     ",
];

/// An RSA key of 2048 bits with the structure of CVE-2017-15361: each prime is k*M + 65537^a mod M, where M is the
/// product of the first 71 primes.
const ROCA: [&str; 2] = [
    "\
     ccf9ab0adf7d44106fec52aa64a54a4a793e45bcfd3589e4b6e443168eddf812d6d2cb0922eeed0ef0d39182adf58bea\
     f3af8fda35c9d758aa021d9a10e9d883222c9d8e4c86068b5afea1e1223092dc94c2bef89c2e9fe91396a82052c2056c\
     2a911a3e90d54ce04d2f2254ba9ccd768bc282175d7a3de50774ee6ee169291683396c86be47ecef819abf4fefb8e9a5\
     0d47dff77dda54a4b35b11b04d77da68ccee8719b8e8110648e90195fb118e41979519c71c804bc83fd7b86a3715dfd6\
     bad8a17fc27487363b5ff6cc83983eb47ff8cb6958b40e47790564b5fb396bf3334675bdb498a072ab1a66408045c8ad\
     abfca9a09d6c4463425ff9ce65f013c3\
     ",
    "\
     d5e12eb889bb0bea9adedce32f61c9c32bffee84e53198512f05bf7b2a58332275463ed5a9bde55e51ac71890a3bcd63\
     bc22d4d7bc88804be4199109d1dc302fa4d9290df28b6708c24a305fda6d14d155e85f9cca5b5c40b84fdbdede7bd56c\
     a87e000488dc08fb838e4b245e147fcfd2c583391e310fa48bc357881b6cbf90ff687eab66681f645197dc1e2885a744\
     46a89e6641c9454bd62404f5c312f863024d6be952f8103e17ad2c5f6b4828f4cd30f74658763e0f50f9c22327571aaf\
     3e090d0f59b2be81d28e9f643ab94fb6830982bdde262aa12b05a31d974d4f320b9af60520f9fef3890e7ed3ea328a5f\
     5e6292f85a010c69ee423c19356b671\
     ",
];
