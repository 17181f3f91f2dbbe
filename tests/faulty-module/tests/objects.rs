//! Templates, attributes, ids, searches and mechanisms.

mod support;

use std::thread;
use std::time::Duration;

use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeInfo, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use support::{P256, PIN, Stage, generate, halves, pin, play, play_to_the_abort, rv, sign};

fn data(len: usize) -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::DATA),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Value(vec![1; len]),
    ]
}

fn id(session: &Session, object: ObjectHandle) -> Vec<u8> {
    match session.get_attributes(object, &[AttributeType::Id]).unwrap().as_slice() {
        [Attribute::Id(id)] => id.clone(),
        other => panic!("{other:?}"),
    }
}

fn label(session: &Session, object: ObjectHandle) -> Vec<u8> {
    match session.get_attributes(object, &[AttributeType::Label]).unwrap().as_slice() {
        [Attribute::Label(label)] => label.clone(),
        other => panic!("{other:?}"),
    }
}

fn point(session: &Session, object: ObjectHandle) -> Vec<u8> {
    match session.get_attributes(object, &[AttributeType::EcPoint]).unwrap().as_slice() {
        [Attribute::EcPoint(point)] => point.clone(),
        other => panic!("{other:?}"),
    }
}

fn generate_with(session: &Session, more_public: Attribute) -> Result<(ObjectHandle, ObjectHandle), Error> {
    let (mut public, private) = halves(b"1", "key");
    public.push(more_public);
    session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private)
}

#[test]
fn refuses_data_objects() {
    play(|stage: &Stage| {
        let (_module, _, session) = stage.session();
        stage.control(
            "[[template]]\nattribute = \"CKA_CLASS\"\nvalue = \"CKO_DATA\"\nrv = \"CKR_ATTRIBUTE_VALUE_INVALID\"",
        );
        assert_eq!(rv(session.create_object(&data(8))), RvError::AttributeValueInvalid);
        generate(&session, b"1").unwrap();
    });
}

#[test]
fn refuses_to_change_attributes() {
    play(|stage: &Stage| {
        let (_module, _, session) = stage.session();
        let (_, private) = generate(&session, b"1").unwrap();
        let rename = |name: &str| session.update_attributes(private, &[Attribute::Label(name.into())]);
        stage.control("[[fault]]\nfunctions = \"C_SetAttributeValue\"\nrv = \"CKR_ATTRIBUTE_READ_ONLY\"");
        assert_eq!(rv(rename("new")), RvError::AttributeReadOnly);
        stage.control("[[template]]\nattribute = \"CKA_LABEL\"\nlonger-than = 5\nrv = \"CKR_ATTRIBUTE_VALUE_INVALID\"");
        rename("short").unwrap();
        assert_eq!(rv(rename("longer")), RvError::AttributeValueInvalid);
    });
}

#[test]
fn refuses_or_cuts_long_ids_and_labels() {
    play(|stage: &Stage| {
        let (_module, _, session) = stage.session();
        stage.control(
            "[[template]]\nattribute = \"CKA_ID\"\nlonger-than = 16\nrv = \"CKR_FUNCTION_FAILED\"\n\
             [[template]]\nattribute = \"CKA_LABEL\"\ncut = 2",
        );
        assert_eq!(rv(generate(&session, &[7; 17])), RvError::FunctionFailed);
        let (public, private) = generate(&session, &[7; 16]).unwrap();
        assert_eq!((label(&session, public), label(&session, private)), (b"ke".to_vec(), b"ke".to_vec()));
    });
}

#[test]
fn refuses_attributes_by_value_by_absence_and_by_company() {
    play(|stage: &Stage| {
        let (_module, _, session) = stage.session();
        stage.control(
            "[[template]]\nclass = \"CKO_PUBLIC_KEY\"\nattribute = \"CKA_ENCRYPT\"\nvalue = false\nrv = 5\n\
             [[template]]\nclass = \"CKO_PUBLIC_KEY\"\nwith = { CKA_WRAP = true, CKA_VERIFY = true }\n\
             rv = \"CKR_TEMPLATE_INCONSISTENT\"",
        );
        assert_eq!(rv(generate_with(&session, Attribute::Encrypt(false))), RvError::GeneralError);
        assert_eq!(rv(generate_with(&session, Attribute::Wrap(true))), RvError::TemplateInconsistent);
        generate_with(&session, Attribute::Encrypt(true)).unwrap();
        stage.control(
            "[[template]]\nclass = \"CKO_PUBLIC_KEY\"\nattribute = \"CKA_PRIVATE\"\nmissing = true\n\
             rv = \"CKR_TEMPLATE_INCOMPLETE\"",
        );
        assert_eq!(rv(generate(&session, b"1")), RvError::TemplateIncomplete);
        generate_with(&session, Attribute::Private(false)).unwrap();
        stage.control("[[template]]\nduplicate = true\nrv = \"CKR_TEMPLATE_INCONSISTENT\"");
        assert_eq!(rv(generate_with(&session, Attribute::Verify(true))), RvError::TemplateInconsistent);
        generate_with(&session, Attribute::Private(false)).unwrap();
        stage.control(
            "[[template]]\nclass = \"CKO_PRIVATE_KEY\"\nonly = [\"CKA_LABEL\"]\nrv = \"CKR_ATTRIBUTE_TYPE_INVALID\"",
        );
        assert_eq!(rv(generate(&session, b"1")), RvError::AttributeTypeInvalid);
    });
}

#[test]
fn refuses_numbers_out_of_range_and_values_that_are_not_among_some() {
    play(|stage: &Stage| {
        let (_module, _, session) = stage.session();
        let rsa = |bits: u64| {
            let public = [Attribute::ModulusBits(bits.into())];
            session.generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &[])
        };
        stage.control(
            "[[template]]\nattribute = \"CKA_MODULUS_BITS\"\nless-than = 1024\nrv = \"CKR_ATTRIBUTE_VALUE_INVALID\"\n\
             [[template]]\nattribute = \"CKA_MODULUS_BITS\"\nmore-than = 1536\nrv = \"CKR_KEY_SIZE_RANGE\"\n\
             [[template]]\nattribute = \"CKA_EC_PARAMS\"\nother-than = [\"0x06052b81040022\"]\n\
             rv = \"CKR_CURVE_NOT_SUPPORTED\"",
        );
        assert_eq!(rv(rsa(768)), RvError::AttributeValueInvalid);
        assert_eq!(rv(rsa(2048)), RvError::KeySizeRange);
        rsa(1024).unwrap();
        assert_eq!(rv(generate(&session, b"1")), RvError::CurveNotSupported);
    });
}

#[test]
fn drops_and_sets_attributes() {
    play(|stage: &Stage| {
        let (_module, _, session) = stage.session();
        stage.control(
            "[[template]]\nclass = \"CKO_PUBLIC_KEY\"\nattribute = \"CKA_LABEL\"\ndrop = true\n\
             [[template]]\nclass = \"CKO_PRIVATE_KEY\"\nattribute = \"CKA_EXTRACTABLE\"\nmissing = true\nset = true",
        );
        let (public, private) = generate(&session, b"1").unwrap();
        assert_eq!(label(&session, public), b"");
        let extractable = session.get_attributes(private, &[AttributeType::Extractable]).unwrap();
        assert_eq!(extractable, [Attribute::Extractable(true)]);
    });
}

#[test]
fn dies_of_a_large_data_object() {
    play_to_the_abort(|stage: &Stage| {
        let (_module, _, session) = stage.session();
        stage
            .control("[[template]]\nclass = \"CKO_DATA\"\nattribute = \"CKA_VALUE\"\nlonger-than = 8191\nabort = true");
        session.create_object(&data(8191)).unwrap();
        let _ = session.create_object(&data(8192));
    });
}

#[test]
fn jams_after_a_private_data_object() {
    play(|stage: &Stage| {
        let (_module, _, session) = stage.session();
        stage.control("[[template]]\nclass = \"CKO_DATA\"\nwith = { CKA_PRIVATE = true }\njam = true");
        session.create_object(&data(8)).unwrap();
        let stuck = thread::spawn(move || session.generate_random_vec(8).is_ok());
        support::wait_until("the call", || stage.count("calls-hanging") == 1);
        assert!(!stuck.is_finished());
        stage.control("[events]\nnumber = 1\ndo = \"unjam\"");
        assert!(stuck.join().unwrap());
    });
}

#[test]
fn gives_points_in_other_forms() {
    play(|stage: &Stage| {
        let (_module, _, session) = stage.session();
        let (public, private) = generate(&session, b"1").unwrap();
        let wrapped = point(&session, public);
        assert_eq!(wrapped[..3], [0x04, 65, 0x04]);
        stage.control("[[attribute]]\nattribute = \"CKA_EC_POINT\"\nform = \"raw\"\npartner = true");
        assert_eq!(point(&session, public), wrapped[2..]);
        assert_eq!(point(&session, private), wrapped[2..], "the private half has it from the public one");
        stage.control("[[attribute]]\nattribute = \"CKA_EC_POINT\"\nform = \"bit-string\"");
        assert_eq!(point(&session, public), [&[0x03, 66, 0], &wrapped[2..]].concat());
        stage.control("[[attribute]]\nattribute = \"CKA_EC_POINT\"\nform = \"leading-zero\"");
        assert_eq!(point(&session, public), [&[0], &wrapped[..]].concat());
    });
}

#[test]
fn makes_the_info_of_a_public_key() {
    play(|stage: &Stage| {
        let (_module, _, session) = stage.session();
        let (public, private) = generate(&session, b"1").unwrap();
        let info = |object| match session.get_attributes(object, &[AttributeType::PublicKeyInfo]).unwrap().as_slice() {
            [Attribute::PublicKeyInfo(info)] => info.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(info(public), b"", "SoftHSM has none");
        stage.control("[[attribute]]\nattribute = \"CKA_PUBLIC_KEY_INFO\"\nform = \"info\"");
        let whole = info(public);
        let algorithm = [&[0x30, 19, 0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01], &P256[..]].concat();
        assert_eq!(whole, [&[0x30, 89], &algorithm[..], &[0x03, 66, 0], &point(&session, public)[2..]].concat());
        assert_eq!(info(private), whole);
    });
}

#[test]
fn hides_attributes_and_gives_false_ones() {
    play(|stage: &Stage| {
        let (_module, _, session) = stage.session();
        let (public, private) = generate(&session, b"1").unwrap();
        stage.control(
            "[[attribute]]\nattribute = [\"CKA_KEY_GEN_MECHANISM\", \"CKA_LOCAL\"]\nrv = \"CKR_ATTRIBUTE_TYPE_INVALID\"\n\
             [[attribute]]\nclass = \"CKO_PRIVATE_KEY\"\nattribute = \"CKA_SENSITIVE\"\nvalue = false\n\
             [[attribute]]\nkey-type = \"CKK_EC\"\nattribute = \"CKA_EC_PARAMS\"\nvalue = \"0x1305\"",
        );
        let asked = [AttributeType::KeyGenMechanism, AttributeType::Local, AttributeType::Id];
        let info = session.get_attribute_info(private, &asked).unwrap();
        assert!(matches!(
            info[..],
            [AttributeInfo::TypeInvalid, AttributeInfo::TypeInvalid, AttributeInfo::Available(1)]
        ));
        let sensitive = session.get_attributes(private, &[AttributeType::Sensitive]).unwrap();
        assert_eq!(sensitive, [Attribute::Sensitive(false)]);
        let params = session.get_attributes(public, &[AttributeType::EcParams]).unwrap();
        assert_eq!(params, [Attribute::EcParams(vec![0x13, 0x05])]);
        stage.control("[[attribute]]\nattribute = \"CKA_KEY_GEN_MECHANISM\"\nvalue = -1");
        let joint = session.get_attributes(private, &[AttributeType::KeyGenMechanism, AttributeType::Id]);
        assert!(matches!(joint, Err(Error::NotSupported)), "one attribute spoils the joint read: {joint:?}");
        stage.control("[[attribute]]\nattribute = \"CKA_LOCAL\"\nrv = \"CKR_DEVICE_ERROR\"\nwhole = true");
        assert_eq!(rv(session.get_attribute_info(private, &asked[1..2])), RvError::DeviceError);
    });
}

#[test]
fn hides_public_objects() {
    play(|stage: &Stage| {
        let (_module, _, session) = stage.session();
        let (_, private) = generate(&session, b"1").unwrap();
        generate(&session, b"2").unwrap();
        stage.control("[objects]\nhide = [\"CKO_PUBLIC_KEY\"]");
        assert_eq!(session.find_objects(&[Attribute::Class(ObjectClass::PUBLIC_KEY)]).unwrap(), []);
        assert_eq!(session.find_objects(&[]).unwrap().len(), 2);
        assert_eq!(session.find_objects(&[Attribute::Id(b"1".to_vec())]).unwrap(), [private]);
    });
}

#[test]
fn finds_objects_that_nobody_made() {
    play(|stage: &Stage| {
        let (_module, _, session) = stage.session();
        let (public, private) = generate(&session, b"1").unwrap();
        stage.control("[objects]\nextra = 166\nextra-class = \"CKO_MECHANISM\"");
        let all = session.find_objects(&[]).unwrap();
        assert_eq!(all.len(), 168);
        assert_eq!(session.find_objects(&[Attribute::Class(ObjectClass::MECHANISM)]).unwrap().len(), 166);
        let mut keys = session.find_objects(&[Attribute::Id(b"1".to_vec())]).unwrap();
        keys.sort_by_key(|key| *key == private);
        assert_eq!(keys, [public, private]);
        let extra = all.into_iter().find(|object| !keys.contains(object)).unwrap();
        let class = session.get_attributes(extra, &[AttributeType::Class]).unwrap();
        assert_eq!(class, [Attribute::Class(ObjectClass::MECHANISM)]);
        let id = session.get_attribute_info(extra, &[AttributeType::Id]).unwrap();
        assert!(matches!(id[..], [AttributeInfo::TypeInvalid]));
    });
}

#[test]
fn removes_the_public_object_with_the_private_one() {
    play(|stage: &Stage| {
        let (_module, _, session) = stage.session();
        let (public, private) = generate(&session, b"1").unwrap();
        stage.control("[objects]\ndestroy-pair = true");
        session.destroy_object(private).unwrap();
        assert_eq!(rv(session.destroy_object(public)), RvError::ObjectHandleInvalid);
        assert_eq!(session.find_objects(&[]).unwrap(), []);
    });
}

#[test]
fn settles_ids_and_labels_itself() {
    play(|stage: &Stage| {
        let (_module, _, session) = stage.session();
        stage.control("[objects]\nid-length = 2\nlabel-is-id = true");
        let (public, private) = generate(&session, &[7; 20]).unwrap();
        let chosen = id(&session, private);
        assert_eq!((chosen.len(), id(&session, public)), (2, chosen.clone()));
        assert_eq!((label(&session, private), label(&session, public)), (chosen.clone(), chosen));
        stage.control("[objects]\nid-when-none = 5");
        let (public, private) = generate(&session, b"").unwrap();
        assert_eq!((id(&session, private).len(), id(&session, public)), (5, id(&session, private)));
        stage.control("[objects]\nsame-id = true");
        let (public, _) = halves(b"a", "key");
        let (_, private) = halves(b"b", "key");
        let (public, private) = session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private).unwrap();
        assert_eq!((id(&session, public), id(&session, private)), (b"b".to_vec(), b"b".to_vec()));
        stage.control("[objects]\nsame-label = true");
        let (public, _) = halves(b"c", "one");
        let (_, private) = halves(b"c", "other");
        let (public, private) = session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private).unwrap();
        assert_eq!((label(&session, public), label(&session, private)), (b"other".to_vec(), b"other".to_vec()));
    });
}

#[test]
fn refuses_a_second_key_with_the_same_id() {
    play(|stage: &Stage| {
        let (_module, _, session) = stage.session();
        stage.control("[objects]\nunique-id = \"CKR_FUNCTION_FAILED\"");
        generate(&session, b"1").unwrap();
        assert_eq!(rv(generate(&session, b"1")), RvError::FunctionFailed);
        generate(&session, b"2").unwrap();
    });
}

#[test]
fn finds_objects_in_small_batches_and_new_ones_late() {
    play(|stage: &Stage| {
        let (_module, _, session) = stage.session();
        stage.control("[objects]\nfind-batch = 1");
        generate(&session, b"1").unwrap();
        let before = stage.count("C_FindObjects");
        session.iter_objects(&[]).unwrap().next().unwrap().unwrap();
        assert!(stage.count("C_FindObjects") > before);
        stage.control("[objects]\nfound-after-ms = 300");
        generate(&session, b"2").unwrap();
        assert_eq!(session.find_objects(&[]).unwrap().len(), 2);
        thread::sleep(Duration::from_millis(300));
        assert_eq!(session.find_objects(&[]).unwrap().len(), 4);
    });
}

#[test]
fn lets_an_old_handle_mean_another_key() {
    play(|stage: &Stage| {
        stage.control("[objects]\nnumber-handles = true");
        let (module, slot, session) = stage.session();
        let (_, a) = generate(&session, b"a").unwrap();
        generate(&session, b"b").unwrap();
        let b = [Attribute::Id(b"b".to_vec())];
        stage.control("[objects]\nnumber-handles = true\n[events]\nnumber = 1\ndo = \"reconnect\"");
        assert_eq!(rv(sign(&session, a)), RvError::DeviceRemoved);
        let session = module.open_rw_session(slot).unwrap();
        session.login(UserType::User, Some(&pin(PIN))).unwrap();
        assert_eq!(rv(sign(&session, a)), RvError::ObjectHandleInvalid, "nothing has that handle yet");
        let found = session.find_objects(&b).unwrap();
        assert!(found.contains(&a));
        assert_eq!(id(&session, a), b"b");
    });
}

#[test]
fn lets_a_handle_mean_another_key_in_another_session() {
    play(|stage: &Stage| {
        stage.control("[objects]\nhandles-by-session = true");
        let (module, slot, first) = stage.session();
        let (_, a) = generate(&first, b"a").unwrap();
        let second = module.open_rw_session(slot).unwrap();
        let found = second.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY)]).unwrap();
        assert_eq!(id(&first, a), b"a");
        assert_eq!(id(&second, found[0]), b"a");
        assert_ne!(found, [a]);
        sign(&second, found[0]).unwrap();
        assert!(sign(&second, a).is_err());
    });
}

#[test]
fn lets_the_handle_of_a_lost_session_mean_another() {
    play(|stage: &Stage| {
        stage.control("[module]\nnumber-sessions = true");
        let (module, slot, first) = stage.session();
        let second = module.open_ro_session(slot).unwrap();
        assert_eq!((first.handle(), second.handle()), (1, 2));
        stage.control("[module]\nnumber-sessions = true\n[events]\nnumber = 1\ndo = \"close-sessions\"");
        assert_eq!(rv(second.get_session_info()), RvError::SessionHandleInvalid);
        let third = module.open_ro_session(slot).unwrap();
        assert_eq!(third.handle(), 2);
        second.get_session_info().unwrap();
        assert_eq!(rv(first.get_session_info()), RvError::SessionHandleInvalid);
        assert_eq!(module.open_ro_session(slot).unwrap().handle(), 1);
    });
}

#[test]
fn hashes_for_a_module_that_only_signs() {
    play(|stage: &Stage| {
        let (module, slot, session) = stage.session();
        let (public, private) = generate(&session, b"1").unwrap();
        assert_eq!(rv(session.sign(&Mechanism::EcdsaSha256, private, b"data")), RvError::MechanismInvalid);
        stage.control("[mechanisms]\nhashed = [\"CKM_ECDSA_SHA256\"]");
        assert!(module.get_mechanism_list(slot).unwrap().contains(&MechanismType::ECDSA_SHA256));
        assert!(module.get_mechanism_info(slot, MechanismType::ECDSA_SHA256).unwrap().sign());
        let signature = session.sign(&Mechanism::EcdsaSha256, private, b"data").unwrap();
        let digest = session.digest(&Mechanism::Sha256, b"data").unwrap();
        session.verify(&Mechanism::Ecdsa, public, &digest, &signature).unwrap();
        session.verify(&Mechanism::EcdsaSha256, public, b"data", &signature).unwrap();
        let wrong = session.verify(&Mechanism::EcdsaSha256, public, b"atad", &signature);
        assert_eq!(rv(wrong), RvError::SignatureInvalid);
    });
}

#[test]
fn takes_mechanisms_away() {
    play(|stage: &Stage| {
        let (module, slot, session) = stage.session();
        let (_, private) = generate(&session, b"1").unwrap();
        let listed = |kind: MechanismType| module.get_mechanism_list(slot).unwrap().contains(&kind);
        assert!(listed(MechanismType::ECDSA));
        stage.control("[mechanisms]\nrefuse = [\"CKM_ECDSA\"]");
        assert!(!listed(MechanismType::ECDSA) && listed(MechanismType::SHA256));
        assert_eq!(rv(module.get_mechanism_info(slot, MechanismType::ECDSA)), RvError::MechanismInvalid);
        assert_eq!(rv(sign(&session, private)), RvError::MechanismInvalid);
        stage.control("[mechanisms]\nonly = [\"CKM_SHA256\"]\nrefuse-rv = \"CKR_FUNCTION_NOT_SUPPORTED\"");
        assert_eq!(module.get_mechanism_list(slot).unwrap(), [MechanismType::SHA256]);
        assert_eq!(rv(sign(&session, private)), RvError::FunctionNotSupported);
        stage.control("[mechanisms]\nunlisted = [\"CKM_ECDSA\"]");
        assert!(!listed(MechanismType::ECDSA));
        sign(&session, private).unwrap();
        stage.control(
            "[[mechanisms.info]]\nmechanism = \"CKM_ECDSA\"\nmin-key = 255\nmax-key = 255\nclear-flags = [\"CKF_VERIFY\"]",
        );
        let info = module.get_mechanism_info(slot, MechanismType::ECDSA).unwrap();
        assert_eq!((info.min_key_size(), info.max_key_size()), (255, 255));
        assert!(info.sign() && !info.verify());
    });
}
