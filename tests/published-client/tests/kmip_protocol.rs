//! The crate kmip-protocol as published, over TLS with rustls: the client library of Krill, and the forerunner of Cascade's.
//!
//! It knows no ECDSA (its Cryptographic Algorithm ends with RSA); ECDSA is shown by the program's own tests.
#![forbid(unsafe_code)]

use std::fs;
use std::net::TcpStream;

use kmip_protocol::client::{Client, ConnectionSettings, Error, tls};
use kmip_protocol::types::common::{
    AttributeName, AttributeValue, KeyFormatType, KeyMaterial, ObjectType, Operation, UniqueIdentifier,
};
use published_client::bridge::Bridge;
use published_client::openssl::{PublicKey, Scheme};
use published_client::token::Token;

use kmip_protocol::types::request::{
    Attribute, ProtocolVersion, ProtocolVersionMajor, ProtocolVersionMinor, RequestPayload,
};
use kmip_protocol::types::response::{ManagedObject, ResponsePayload};
use kmip_protocol::types::traits::ReadWrite;

fn settings(bridge: &Bridge, username: &str, password: &str) -> ConnectionSettings {
    ConnectionSettings {
        host: "localhost".to_string(),
        port: bridge.address.port(),
        username: Some(username.to_string()),
        password: Some(password.to_string()),
        server_cert: Some(fs::read(bridge.certificate()).expect("the certificate")),
        max_response_bytes: Some(8192),
        ..ConnectionSettings::default()
    }
}

fn connect(bridge: &Bridge, token: &Token) -> Client<impl ReadWrite + use<>> {
    connect_as(bridge, &token.label, &token.pin)
}

fn connect_as(bridge: &Bridge, username: &str, password: &str) -> Client<impl ReadWrite + use<>> {
    // "localhost" may mean ::1 first, where nobody listens.
    let address = bridge.address;
    tls::rustls::connect_with_tcpstream_factory(&settings(bridge, username, password), move |_, _| {
        Ok(TcpStream::connect(address)?)
    })
    .expect("a connection")
}

#[test]
fn a_key_lives_from_creation_to_destruction() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let client = connect(&bridge, &token);

    let (private, public) = client
        .create_rsa_key_pair(2048, "interop-pri".to_string(), "interop-pub".to_string())
        .expect("Create Key Pair");

    let key = client.get_key(&public).expect("Get");
    assert_eq!(key.object_type, ObjectType::PublicKey);
    assert_eq!(key.unique_identifier, UniqueIdentifier(public.clone()));
    let ManagedObject::PublicKey(key) = key.cryptographic_object else { panic!("not a public key") };
    assert_eq!(key.key_block.cryptographic_length, Some(2048));

    client.activate_key(&private).expect("Activate");

    let renamed = client.rename_key(&private, "example.org-4711-ksk-pri".to_string()).expect("Modify Attribute");
    assert_eq!(*renamed.unique_identifier, private);
    assert_eq!(renamed.attribute.name, AttributeName("Name".to_string()));
    token.object("Private Key", "example.org-4711-ksk-pri");

    let data = b"the data that is signed";
    let signature = client.sign(&private, data).expect("Sign").signature_data;
    let public_key = match (key.key_block.key_format_type, key.key_block.key_value.key_material) {
        (KeyFormatType::PKCS1, KeyMaterial::Bytes(der)) => PublicKey::from_pkcs1(&der),
        (KeyFormatType::TransparentRSAPublicKey, KeyMaterial::TransparentRSAPublicKey(key)) => {
            PublicKey::from_rsa(&key.modulus, &key.public_exponent)
        }
        (format, _) => panic!("RSA public key in format {format:?}"),
    };
    assert!(public_key.verifies(Scheme::Digest("-sha256"), data, &signature));
    assert!(!public_key.verifies(Scheme::Digest("-sha256"), b"other data", &signature));

    client.revoke_key(&private).expect("Revoke");
    client.destroy_key(&private).expect("Destroy of the private key");
    client.destroy_key(&public).expect("Destroy of the public key");
    assert!(matches!(client.sign(&private, data), Err(Error::ItemNotFound(_))));
    assert_eq!(token.objects(), Vec::<String>::new());
    assert_eq!(client.connection_error_count(), 0);
}

#[test]
fn query_names_the_operations_and_the_token() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let answer = connect(&bridge, &token).query().expect("Query");
    let operations = answer.operations.expect("operations");
    for operation in [Operation::CreateKeyPair, Operation::ModifyAttribute, Operation::Sign, Operation::RNGRetrieve] {
        assert!(operations.contains(&operation), "{operation} is missing");
    }
    let objects = answer.object_types.expect("object types");
    assert!(objects.contains(&ObjectType::PublicKey) && objects.contains(&ObjectType::PrivateKey));
    let vendor = answer.vendor_identification.expect("a vendor identification");
    assert!(vendor.contains("cascade-hsm-bridge") && vendor.contains(&token.label), "{vendor}");
}

#[test]
fn discover_versions_offers_what_the_client_speaks() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let client = connect(&bridge, &token);
    let wanted = ProtocolVersion(ProtocolVersionMajor(1), ProtocolVersionMinor(2));
    let answer = client.do_request(RequestPayload::DiscoverVersions(vec![wanted])).expect("Discover Versions");
    let ResponsePayload::DiscoverVersions(answer) = answer else { panic!("another answer: {answer:?}") };
    let versions = answer.supported_versions.expect("a version");
    assert_eq!(versions.iter().map(|version| (version.major, version.minor)).collect::<Vec<_>>(), [(1, 2)]);
}

#[test]
fn random_bytes_come_in_the_length_asked_for() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let client = connect(&bridge, &token);
    let first = client.rng_retrieve(32).expect("RNG Retrieve").data;
    let second = client.rng_retrieve(32).expect("RNG Retrieve").data;
    assert_eq!((first.len(), second.len()), (32, 32));
    assert_ne!(first, second);
}

#[test]
fn a_key_is_located_by_name_and_tells_its_attributes() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let client = connect(&bridge, &token);
    let (private, _) =
        client.create_rsa_key_pair(2048, "wanted".to_string(), "other".to_string()).expect("Create Key Pair");

    let answer =
        client.do_request(RequestPayload::Locate(vec![Attribute::Name("wanted".to_string())])).expect("Locate");
    let ResponsePayload::Locate(answer) = answer else { panic!("another answer: {answer:?}") };
    assert_eq!(answer.unique_identifiers, [UniqueIdentifier(private.clone())]);

    let names = vec![AttributeName("Object Type".to_string())];
    let request = RequestPayload::GetAttributes(Some(UniqueIdentifier(private.clone())), Some(names));
    let ResponsePayload::GetAttributes(answer) = client.do_request(request).expect("Get Attributes") else {
        panic!("another answer")
    };
    let attributes = answer.attributes.expect("one attribute");
    assert_eq!(attributes.len(), 1);
    assert_eq!(attributes[0].value, AttributeValue::ObjectType(ObjectType::PrivateKey));

    let request = RequestPayload::GetAttributeList(Some(UniqueIdentifier(private)));
    let ResponsePayload::GetAttributeList(answer) = client.do_request(request).expect("Get Attribute List") else {
        panic!("another answer")
    };
    assert!(answer.attributes.contains(&AttributeName("Cryptographic Usage Mask".to_string())));
}

#[test]
fn a_wrong_pin_is_refused_and_the_connection_stays_in_step() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    connect(&bridge, &token).rng_retrieve(8).expect("RNG Retrieve");
    let stranger = connect_as(&bridge, &token.label, "not-the-pin");
    for _ in 0..3 {
        assert!(matches!(stranger.rng_retrieve(8), Err(Error::ServerError(_))));
    }
    assert_eq!(stranger.connection_error_count(), 0);
}
