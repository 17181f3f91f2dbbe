//! Signatures and keys judged by the openssl command, which shares no code with the bridge.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::scratch::Scratch;

/// How a signature was made.
#[derive(Clone, Copy, Debug)]
pub enum Scheme {
    /// PKCS#1 v1.5 with RSA, DER-encoded with ECDSA; the digest in openssl's spelling.
    Digest(&'static str),
    /// RSASSA-PSS with a salt as long as the digest.
    Pss(&'static str),
    /// Ed25519, Ed448: the data itself is signed.
    Edwards,
}

/// A public key as openssl reads it.
pub struct PublicKey {
    directory: Scratch,
    pem: PathBuf,
}

impl PublicKey {
    pub fn from_pkcs1(der: &[u8]) -> PublicKey {
        PublicKey::from_der(&["rsa", "-RSAPublicKey_in"], der)
    }

    pub fn from_subject_public_key_info(der: &[u8]) -> PublicKey {
        PublicKey::from_der(&["pkey", "-pubin"], der)
    }

    /// An RSA key from its numbers, as KMIP's Big Integers hold them.
    pub fn from_rsa(modulus: &[u8], exponent: &[u8]) -> PublicKey {
        PublicKey::from_pkcs1(&der(0x30, &[der_integer(modulus), der_integer(exponent)].concat()))
    }

    fn from_der(command: &[&str], der: &[u8]) -> PublicKey {
        let directory = Scratch::new("openssl");
        let pem = directory.path().join("public.pem");
        let input = directory.file("public.der", der);
        let output =
            openssl(&[command, &["-inform", "DER", "-pubout", "-in", text(&input), "-out", text(&pem)]].concat());
        assert!(output.status.success(), "openssl does not take the key: {}", String::from_utf8_lossy(&output.stderr));
        PublicKey { directory, pem }
    }

    /// Whether the signature is one over the data by this key.
    pub fn verifies(&self, scheme: Scheme, data: &[u8], signature: &[u8]) -> bool {
        let data = self.directory.file("data", data);
        let signature = self.directory.file("signature", signature);
        let (key, data, signature) = (text(&self.pem), text(&data), text(&signature));
        let output = match scheme {
            Scheme::Digest(digest) => openssl(&["dgst", digest, "-verify", key, "-signature", signature, data]),
            Scheme::Pss(digest) => {
                let options = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"];
                openssl(&[&["dgst", digest], &options[..], &["-verify", key, "-signature", signature, data]].concat())
            }
            Scheme::Edwards => {
                openssl(&["pkeyutl", "-verify", "-pubin", "-inkey", key, "-rawin", "-in", data, "-sigfile", signature])
            }
        };
        output.status.success()
    }

    /// What openssl says of the key: size, curve, numbers.
    pub fn description(&self) -> String {
        let output = openssl(&["pkey", "-pubin", "-in", text(&self.pem), "-noout", "-text"]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The key as DER SubjectPublicKeyInfo, encoded by openssl.
    pub fn subject_public_key_info(&self) -> Vec<u8> {
        openssl(&["pkey", "-pubin", "-in", text(&self.pem), "-pubout", "-outform", "DER"]).stdout
    }

    /// An RSA key as DER PKCS#1 RSAPublicKey, encoded by openssl.
    pub fn pkcs1(&self) -> Vec<u8> {
        openssl(&["rsa", "-pubin", "-in", text(&self.pem), "-RSAPublicKey_out", "-outform", "DER"]).stdout
    }
}

fn openssl(arguments: &[&str]) -> Output {
    Command::new("openssl").args(arguments).output().expect("openssl is installed (make deps)")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// A Big Integer of KMIP as an INTEGER of DER: both are two's complement, DER has no spare bytes in front.
fn der_integer(number: &[u8]) -> Vec<u8> {
    let spare = number.windows(2).take_while(|pair| pair[0] == 0 && pair[1] < 0x80).count();
    der(0x02, &number[spare..])
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("keys are short").to_be_bytes();
    let mut out = vec![tag];
    match content.len() {
        0..0x80 => out.push(length[1]),
        0x80..0x100 => out.extend([0x81, length[1]]),
        _ => out.extend([0x82, length[0], length[1]]),
    }
    out.extend_from_slice(content);
    out
}
