//! The rules of `[[fault]]`, and the module that nobody disturbs.

mod support;

use std::time::{Duration, Instant};
use std::{fs, thread};

use cryptoki::error::RvError;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectClass};
use support::{Stage, generate, initialize, play, play_to_the_abort, rv, sign, wait_until};

#[test]
fn forwards_everything_while_there_is_no_control_file() {
    play(|stage: &Stage| {
        let (module, slot, session) = stage.session();
        let (public, private) = generate(&session, b"1").unwrap();
        let signature = sign(&session, private).unwrap();
        session.verify(&Mechanism::Ecdsa, public, &[7; 32], &signature).unwrap();
        assert_eq!(session.find_objects(&[Attribute::Id(b"1".to_vec())]).unwrap().len(), 2);
        session.destroy_object(private).unwrap();
        assert!(!module.get_mechanism_list(slot).unwrap().is_empty());
        assert_eq!(module.get_library_info().unwrap().manufacturer_id(), "SoftHSM");
        session.close().unwrap();
        module.finalize().unwrap();
    });
}

#[test]
fn counts_calls_and_sessions_in_a_file() {
    play(|stage: &Stage| {
        let (module, slot, session) = stage.session();
        let (_, private) = generate(&session, b"1").unwrap();
        let before = stage.count("C_SignInit");
        for _ in 0..12 {
            sign(&session, private).unwrap();
        }
        assert_eq!(stage.count("C_SignInit"), before + 12);
        assert_eq!(stage.count("sessions"), 1);
        let second = module.open_ro_session(slot).unwrap();
        second.close().unwrap();
        assert_eq!((stage.count("sessions"), stage.count("peak-sessions")), (1, 2));
        stage.control("dump = 5");
        sign(&session, private).unwrap();
        assert_eq!(stage.count("dump"), 5);
        assert_eq!(stage.count("calls-under-way"), 0);
    });
}

#[test]
fn delays_chosen_functions() {
    play(|stage: &Stage| {
        let (_module, _, session) = stage.session();
        stage.control("[[fault]]\nfunctions = \"C_GenerateRandom\"\ndelay-ms = 120");
        let start = Instant::now();
        session.generate_random_vec(8).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(120));
    });
}

#[test]
fn fails_the_next_calls_after_some_and_then_no_more() {
    play(|stage: &Stage| {
        let (_module, _, session) = stage.session();
        let rule = "[[fault]]\nfunctions = \"C_GenerateRandom\"\nskip = 1\nnext = 2\nrv = \"CKR_DEVICE_ERROR\"\n";
        let play = |arm: u32| {
            stage.control(&format!("{rule}arm = {arm}"));
            (0..5).map(|_| session.generate_random_vec(8).is_ok()).collect::<Vec<bool>>()
        };
        assert_eq!(play(0), [true, false, false, true, true]);
        assert_eq!(play(0), [true; 5], "the same rule goes on counting");
        assert_eq!(play(1), [true, false, false, true, true]);
    });
}

#[test]
fn fails_every_nth_call_or_all() {
    play(|stage: &Stage| {
        let (_module, _, session) = stage.session();
        stage.control("[[fault]]\nfunctions = [\"C_GenerateRandom\"]\nevery = 3\nrv = 0x30");
        let answers: Vec<bool> = (0..7).map(|_| session.generate_random_vec(8).is_ok()).collect();
        assert_eq!(answers, [true, true, false, true, true, false, true]);
        stage.control("[[fault]]\nfunctions = \"C_*\"\nrv = \"CKR_DEVICE_MEMORY\"");
        assert_eq!(rv(session.generate_random_vec(8)), RvError::DeviceMemory);
        assert_eq!(rv(session.get_session_info()), RvError::DeviceMemory);
        fs::remove_file(stage.path("control")).unwrap();
        session.generate_random_vec(8).unwrap();
    });
}

#[test]
fn fails_by_a_chance_that_is_the_same_each_time() {
    play(|stage: &Stage| {
        let (_module, _, session) = stage.session();
        let play = |arm: u32| {
            let rule = "[[fault]]\nfunctions = \"C_GenerateRandom\"\nchance = 0.25\nseed = 7\nrv = 5";
            stage.control(&format!("{rule}\narm = {arm}"));
            (0..400).map(|_| session.generate_random_vec(1).is_err()).collect::<Vec<bool>>()
        };
        let first = play(1);
        assert!((60..140).contains(&first.iter().filter(|failed| **failed).count()));
        assert_eq!(play(2), first);
    });
}

#[test]
fn does_the_work_and_loses_the_answer() {
    play(|stage: &Stage| {
        let (_module, _, session) = stage.session();
        stage.control("[[fault]]\nfunctions = \"C_GenerateKeyPair\"\nafter = true\nrv = \"CKR_DEVICE_ERROR\"");
        assert_eq!(rv(generate(&session, b"lost")), RvError::DeviceError);
        assert_eq!(session.find_objects(&[Attribute::Id(b"lost".to_vec())]).unwrap().len(), 2);
        stage.control("[[fault]]\nfunctions = \"C_GenerateKeyPair\"\nrv = \"CKR_DEVICE_ERROR\"");
        assert_eq!(rv(generate(&session, b"none")), RvError::DeviceError);
        assert_eq!(session.find_objects(&[Attribute::Id(b"none".to_vec())]).unwrap().len(), 0);
    });
}

#[test]
fn changes_one_answer_into_another() {
    play(|stage: &Stage| {
        let (_module, _, session) = stage.session();
        let (public, _) = generate(&session, b"1").unwrap();
        stage.control(
            "[[fault]]\nfunctions = \"C_Verify\"\nanswered = \"CKR_SIGNATURE_INVALID\"\nrv = \"CKR_DEVICE_ERROR\"",
        );
        let verified = session.verify(&Mechanism::Ecdsa, public, &[7; 32], &[9; 64]);
        assert_eq!(rv(verified), RvError::DeviceError);
    });
}

#[test]
fn pretends_that_a_call_worked() {
    play(|stage: &Stage| {
        let (_module, _, session) = stage.session();
        let (public, private) = generate(&session, b"1").unwrap();
        stage.control(
            "[[fault]]\nfunctions = \"C_DestroyObject\"\nclass = \"CKO_PUBLIC_KEY\"\nrv = \"CKR_OK\"\n\
             [[fault]]\nfunctions = \"C_FindObjects\"\nnext = 1\nrv = \"CKR_OK\"",
        );
        assert_eq!(session.find_objects(&[]).unwrap().len(), 0, "the search misses");
        session.destroy_object(public).unwrap();
        assert_eq!(session.find_objects(&[]).unwrap().len(), 2, "the public key is still there");
        session.destroy_object(private).unwrap();
        assert_eq!(session.find_objects(&[]).unwrap().len(), 1);
    });
}

#[test]
fn fails_only_calls_with_a_mechanism_a_length_or_a_query() {
    play(|stage: &Stage| {
        let (_module, _, session) = stage.session();
        let (_, private) = generate(&session, b"1").unwrap();
        stage.control(
            "[[fault]]\nfunctions = \"C_GenerateRandom\"\nover-bytes = 1024\nrv = \"CKR_DATA_LEN_RANGE\"\n\
             [[fault]]\nfunctions = \"C_GenerateRandom\"\nunder-bytes = 8\nrv = \"CKR_ARGUMENTS_BAD\"\n\
             [[fault]]\nfunctions = \"C_Sign\"\nmechanism = \"CKM_ECDSA\"\nquery = true\nrv = \"CKR_BUFFER_TOO_SMALL\"",
        );
        session.generate_random_vec(1024).unwrap();
        assert_eq!(rv(session.generate_random_vec(1025)), RvError::DataLenRange);
        assert_eq!(rv(session.generate_random_vec(7)), RvError::ArgumentsBad);
        session.digest(&Mechanism::Sha256, &[1]).unwrap();
        assert_eq!(rv(sign(&session, private)), RvError::BufferTooSmall);
        stage.control("[[fault]]\nfunctions = \"C_SignInit\"\nmechanism = \"CKM_RSA_PKCS\"\nrv = 5");
        assert_eq!(rv(sign(&session, private)), RvError::OperationActive, "the operation went on, as it should");
    });
}

#[test]
fn answers_a_length_that_is_too_small() {
    play(|stage: &Stage| {
        let (_module, _, session) = stage.session();
        let (_, private) = generate(&session, b"1").unwrap();
        stage.control("[[fault]]\nfunctions = \"C_Sign\"\nshorten = 32");
        assert_eq!(rv(sign(&session, private)), RvError::BufferTooSmall);
    });
}

#[test]
fn spoils_a_signature() {
    play(|stage: &Stage| {
        let (_module, _, session) = stage.session();
        let (public, private) = generate(&session, b"1").unwrap();
        stage.control("[[fault]]\nfunctions = \"C_Sign\"\nquery = false\nnext = 1\ncorrupt = true");
        let bad = sign(&session, private).unwrap();
        let good = sign(&session, private).unwrap();
        let verify = |signature: &[u8]| session.verify(&Mechanism::Ecdsa, public, &[7; 32], signature);
        assert_eq!(rv(verify(&bad)), RvError::SignatureInvalid);
        verify(&good).unwrap();
    });
}

#[test]
fn ends_an_operation_that_failed_unless_told_otherwise() {
    play(|stage: &Stage| {
        let (_module, _, session) = stage.session();
        let (_, private) = generate(&session, b"1").unwrap();
        let fault = "[[fault]]\nfunctions = \"C_Sign\"\nnext = 1\nrv = \"CKR_DEVICE_ERROR\"\n";
        stage.control(fault);
        assert_eq!(rv(sign(&session, private)), RvError::DeviceError);
        sign(&session, private).unwrap();
        stage.control(&format!("{fault}arm = 1\n[operations]\nstay-active-after-error = true"));
        assert_eq!(rv(sign(&session, private)), RvError::DeviceError);
        assert_eq!(rv(sign(&session, private)), RvError::OperationActive);
    });
}

#[test]
fn hangs_until_the_control_file_lets_go() {
    play(|stage: &Stage| {
        let (module, slot, session) = stage.session();
        let other = module.open_ro_session(slot).unwrap();
        stage.control("[[fault]]\nfunctions = \"C_GenerateRandom\"\nnext = 1\nhang = true");
        let stuck = thread::spawn(move || session.generate_random_vec(8).is_ok());
        wait_until("the hang", || stage.count("calls-hanging") == 1);
        other.generate_random_vec(8).unwrap();
        assert!(!stuck.is_finished());
        stage.control("");
        assert!(stuck.join().unwrap());
    });
}

#[test]
fn aborts_in_a_call() {
    play_to_the_abort(|stage: &Stage| {
        let (_module, _, session) = stage.session();
        stage.control("[[fault]]\nfunctions = \"C_GenerateRandom\"\nskip = 1\nabort = true");
        session.generate_random_vec(8).unwrap();
        let _ = session.generate_random_vec(8);
    });
}

#[test]
fn fails_calls_that_come_together() {
    play(|stage: &Stage| {
        let (module, slot, session) = stage.session();
        let other = module.open_rw_session(slot).unwrap();
        stage.control(
            "[[fault]]\nfunctions = [\"C_GenerateKeyPair\", \"C_DestroyObject\"]\nconcurrent = true\nrv = 5\n\
             [[fault]]\nfunctions = \"C_GenerateKeyPair\"\nnext = 1\nhang = true",
        );
        let first = thread::spawn(move || generate(&session, b"1").is_ok());
        wait_until("the first call", || stage.count("calls-hanging") == 1);
        assert_eq!(rv(generate(&other, b"2")), RvError::GeneralError);
        assert!(other.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY)]).unwrap().is_empty());
        stage.control("[[fault]]\nfunctions = \"C_GenerateKeyPair\"\nconcurrent = true\nrv = 5\n");
        assert!(first.join().unwrap());
        generate(&other, b"3").unwrap();
    });
}

#[test]
fn does_one_thing_at_a_time() {
    play(|stage: &Stage| {
        let (module, slot, session) = stage.session();
        let other = module.open_ro_session(slot).unwrap();
        stage.control("[module]\none-at-a-time = true\n[[fault]]\nfunctions = \"C_GenerateRandom\"\ndelay-ms = 100");
        let start = Instant::now();
        let first = thread::spawn(move || session.generate_random_vec(8).is_ok());
        other.generate_random_vec(8).unwrap();
        assert!(first.join().unwrap());
        assert!(start.elapsed() >= Duration::from_millis(200));
    });
}

#[test]
fn keeps_a_panic_on_its_own_side() {
    play(|stage: &Stage| {
        let (_module, _, session) = stage.session();
        stage.control("[[fault]]\nfunctions = \"C_GenerateRandom\"\nnext = 1\npanic = true");
        assert_eq!(rv(session.generate_random_vec(8)), RvError::GeneralError);
        session.generate_random_vec(8).unwrap();
    });
}

#[test]
fn refuses_to_initialise() {
    play(|stage: &Stage| {
        let module = stage.load();
        stage.control("[[fault]]\nfunctions = \"C_Initialize\"\nnext = 1\nrv = \"CKR_DEVICE_ERROR\"");
        assert_eq!(rv(initialize(&module)), RvError::DeviceError);
        stage.control("[module]\nos-locking = \"CKR_CANT_LOCK\"");
        assert_eq!(rv(initialize(&module)), RvError::CantLock);
        stage.control(
            "[module]\nneeds-env = [\"SOFTHSM2_CONF\", \"VENDORS_CONFIGURATION\"]\nstderr = \"no configuration\"",
        );
        assert_eq!(rv(initialize(&module)), RvError::GeneralError);
        stage.control("");
        initialize(&module).unwrap();
    });
}

#[test]
fn lays_one_control_file_over_another() {
    play(|stage: &Stage| {
        let (module, slot, session) = stage.session();
        stage.profile(
            "[token]\nmodel = \"below\"\nserial = \"123\"\n\
             [[fault]]\nfunctions = \"C_GenerateRandom\"\nover-bytes = 100\nrv = 5",
        );
        stage.control(
            "[token]\nmodel = \"above\"\n[[fault]]\nfunctions = \"C_GenerateRandom\"\nunder-bytes = 9\nrv = 6",
        );
        let token = module.get_token_info(slot).unwrap();
        assert_eq!((token.model(), token.serial_number()), ("above", "123"));
        assert_eq!(rv(session.generate_random_vec(101)), RvError::GeneralError);
        assert_eq!(rv(session.generate_random_vec(8)), RvError::FunctionFailed);
    });
}

#[test]
fn ends_the_process_over_a_control_file_that_makes_no_sense() {
    let output = play_to_the_abort(|stage: &Stage| {
        let module = stage.module();
        stage.control("[[fault]]\nfunctions = \"C_Sing\"\nrv = 5");
        let _ = module.get_library_info();
    });
    if let Some(output) = output {
        assert!(output.contains("there is no function C_Sing"), "{output}");
        assert!(output.contains("line 2"), "{output}");
    }
}
