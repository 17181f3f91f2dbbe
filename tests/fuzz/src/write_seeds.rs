//! Writes the corpus that each target begins with: `seeds DIRECTORY`.

use std::path::Path;
use std::{env, fs, io};

use cascade_hsm_bridge::bridge::{ecdsa_signature, subject_public_key_info};
use cascade_hsm_bridge::config::keys::{self, Key};
use cascade_hsm_bridge::pkcs11::{Curve, PublicKey};
use fuzz::seeds;

// Compiled like the targets, this needs what libFuzzer keeps their coverage with; it does not fuzz.
libfuzzer_sys::fuzz_target!(|_data: &[u8]| {});

/// Targets whose input is a message.
const OF_MESSAGES: [&str; 4] = ["ttlv", "framing", "request", "front_end"];

fn main() -> io::Result<()> {
    let Some(directory) = env::args_os().nth(1) else {
        return Err(io::Error::other("usage: seeds DIRECTORY"));
    };
    let directory = Path::new(&directory);
    let messages = seeds::all();
    for target in OF_MESSAGES {
        write(directory, target, messages.iter().map(|seed| (seed.name.clone(), seed.message.clone())))?;
    }
    let scripts = (0..messages.len()).map(|index| (messages[index].name.clone(), script(index)));
    write(directory, "module", scripts)?;
    write(directory, "config", configurations())?;
    write(directory, "dnskey", records())?;
    write(directory, "der", encodings())?;
    write(directory, "certificate", certificates())
}

fn write(directory: &Path, target: &str, inputs: impl IntoIterator<Item = (String, Vec<u8>)>) -> io::Result<()> {
    let directory = directory.join(target);
    fs::create_dir_all(&directory)?;
    for (name, bytes) in inputs {
        fs::write(directory.join(format!("seed-{name}")), bytes)?;
    }
    Ok(())
}

/// Input of the target `module`: which seed is asked, then a script in which one answer goes wrong.
fn script(index: usize) -> Vec<u8> {
    let mut input = u16::try_from(index).unwrap_or(0).to_be_bytes().to_vec();
    input.extend(vec![0; index % 24]);
    input.extend([[0x80 + (index % 32) as u8, 0], [0xc0, 3], [0xe2, 0]][index % 3]);
    input.extend([1, 2, 3]);
    input
}

/// A file with each key by itself, and one with all of them, each at its default where it has one.
fn configurations() -> Vec<(String, Vec<u8>)> {
    let line = |key: &Key| format!("{} = {}\n", key.path, key.default.as_deref().unwrap_or("\"root\""));
    let needed = "version = \"v1\"\npkcs11.lib-path = \"/usr/lib/module.so\"\n";
    let keys = keys::all();
    let others = keys.iter().filter(|key| !needed.contains(key.path));
    let mut files: Vec<_> = others.map(|key| (key.path.replace('.', "-"), format!("{needed}{}", line(key)))).collect();
    files.push(("all".into(), keys.iter().map(line).collect()));
    files.push(("tokens".into(), format!("{needed}{TOKENS}")));
    files.into_iter().map(|(name, text)| (name, text.into_bytes())).collect()
}

/// What can be said of tokens and of the clients that use them.
const TOKENS: &str = r#"
[module.env]
VENDOR_CONF = "/etc/vendor.conf"
[[token]]
name = "one"
pin = "1234"
serialize = true
[[token]]
match = { label = "t*", serial = "?", manufacturer = "*", model = "" }
login = "none"
max-sessions = 2
id-length = 0
label-max = 40
label-characters = "plain"
rename = false
store-public-key = false
data-objects = true
template = "granted"
ec-params = "name"
omit-mechanisms = ["CKM_SHA256_RSA_PKCS"]
[token.key-template.private]
add = { CKA_MODIFIABLE = false, 0x80000001 = "0x0aff", CKA_START_DATE = "20260101", CKA_DERIVE = 1 }
omit = ["CKA_UNWRAP", "272"]
[token.key-template.ec.public]
omit = ["CKA_WRAP"]
[[client]]
username = "signer"
password-file = "/etc/signer"
token = "two"
"#;

/// DNSKEY records, one of each algorithm, as signers write them.
fn records() -> Vec<(String, Vec<u8>)> {
    let zeros = |len: usize| format!("AwEA{}", "A".repeat(len.div_ceil(3) * 4 - 4));
    let keys = [(8, "AwEAAcFc".to_owned()), (10, "AAABAwEAAcFc".to_owned())];
    let points = [(13, 64), (14, 96), (15, 32), (16, 57)].map(|(number, len)| {
        let padding = "=".repeat((3 - len % 3) % 3);
        let whole = zeros(len);
        (number, format!("{}{padding}", &whole[..whole.len() - padding.len()]))
    });
    let all = keys.into_iter().chain(points);
    let texts = all.flat_map(|(number, key)| {
        [
            (format!("bind-{number}"), format!("; a key\nexample.org. IN DNSKEY 257 3 {number} {key}\n")),
            (
                format!("lines-{number}"),
                format!("example.org.\t3600\tIN\tDNSKEY\t(256 3\n{number} {key} ) ;{{id = 1}}\n"),
            ),
        ]
    });
    texts.map(|(name, text)| (name, text.into_bytes())).collect()
}

/// Parameters, points, public keys and signatures of every curve; the first byte is the number of the curve.
fn encodings() -> Vec<(String, Vec<u8>)> {
    let mut encodings = Vec::new();
    for (number, curve) in (0_u8..).zip(Curve::ALL) {
        let raw = [vec![4], vec![7; curve.point_len() - 1]].concat();
        let wrapped = [vec![4, 0x81, raw.len() as u8], raw.clone()].concat();
        let info = subject_public_key_info(&PublicKey::Ec { curve, point: raw.clone() });
        let signature = ecdsa_signature(&vec![0x85; 2 * curve.coordinate_len()]).unwrap_or_default();
        let params = curve.name_der().unwrap_or(curve.oid_der()).to_vec();
        for (name, bytes) in [
            ("params", curve.oid_der().to_vec()),
            ("name", params),
            ("raw", raw),
            ("wrapped", wrapped),
            ("info", info),
            ("signature", signature),
        ] {
            encodings.push((format!("{name}-{number}"), [vec![number], bytes].concat()));
        }
    }
    let rsa = PublicKey::Rsa { modulus: vec![0xc1; 128], exponent: vec![1, 0, 1] };
    encodings.push(("info-rsa".into(), [vec![0], subject_public_key_info(&rsa)].concat()));
    encodings
}

/// Certificates as far as they are read: without a signature, and with names that ask for escapes.
fn certificates() -> Vec<(String, Vec<u8>)> {
    const COMMON_NAME: &[u8] = &[0x55, 4, 3];
    const ORGANIZATION: &[u8] = &[0x55, 4, 10];
    const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
    let sequence = |parts: &[Vec<u8>]| element(0x30, &parts.concat());
    let attribute = |oid: &[u8], tag: u8, value: &str| sequence(&[element(6, oid), element(tag, value.as_bytes())]);
    let plain = [
        element(0x31, &attribute(ORGANIZATION, 0x0c, "Example, Inc.")),
        element(0x31, &attribute(COMMON_NAME, 0x13, "signer")),
    ];
    let double = [attribute(COMMON_NAME, 0x0c, " #a+\"<>;\\\0 "), attribute(ORGANIZATION, 0x16, "b ")].concat();
    let names = [
        element(0x82, b"signer.example"),
        element(0x86, b"urn:example:signer"),
        element(0x81, b"signer@example.org"),
        element(0x87, &[192, 0, 2, 1]),
    ];
    let names = element(4, &sequence(&names));
    let extension = |critical: &[u8]| [element(6, SUBJECT_ALT_NAME), critical.to_vec(), names.clone()];
    let critical = element(1, &[0xff]);
    let nothing = || sequence(&[]);
    let certificate = |subject: &[Vec<u8>], extension: &[Vec<u8>]| {
        let tbs = [
            element(0xa0, &element(2, &[2])),
            element(2, &[1]),
            nothing(),
            nothing(),
            nothing(),
            sequence(subject),
            nothing(),
            element(0xa3, &sequence(&[sequence(extension)])),
        ];
        sequence(&[sequence(&tbs), nothing(), element(3, &[0])])
    };
    vec![
        ("plain".into(), certificate(&plain, &extension(&[]))),
        ("double".into(), certificate(&[element(0x31, &double)], &extension(&critical))),
        ("nobody".into(), certificate(&[], &extension(&[]))),
    ]
}

/// An element of DER.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = match content.len() {
        len @ 0..=0x7f => vec![len as u8],
        len => vec![0x82, (len >> 8) as u8, len as u8],
    };
    [vec![tag], len, content.to_vec()].concat()
}
