//! Signatures and keys judged by the openssl command, which shares no code with the bridge.

use std::path::PathBuf;
use std::process::{Command, Output};

use super::scratch::Scratch;
use super::tags::{self, format};
use super::ttlv::Node;

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
    /// Takes the key out of a Key Block, whatever its format.
    pub fn from_key_block(block: &Node) -> PublicKey {
        let directory = Scratch::new("openssl");
        let pem = directory.path().join("public.pem");
        let material = block.at(&[tags::KEY_VALUE, tags::KEY_MATERIAL]);
        let (command, der): (&[&str], Vec<u8>) = match block.child(tags::KEY_FORMAT_TYPE).as_enumeration() {
            format::PKCS_1 => (&["rsa", "-RSAPublicKey_in"], material.as_bytes().to_vec()),
            format::RAW | format::X_509 => (&["pkey", "-pubin"], material.as_bytes().to_vec()),
            format::TRANSPARENT_RSA_PUBLIC_KEY => {
                let modulus = der_integer(material.child(tags::MODULUS).as_bytes());
                let exponent = der_integer(material.child(tags::PUBLIC_EXPONENT).as_bytes());
                (&["rsa", "-RSAPublicKey_in"], der(0x30, &[modulus, exponent].concat()))
            }
            other => panic!("Key Format Type {other:#x}"),
        };
        let input = directory.file("public.der", der);
        let output = openssl(&[command, &["-inform", "DER", "-pubout", "-in", text(&input), "-out", text(&pem)]].concat());
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

fn text(path: &PathBuf) -> &str {
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
