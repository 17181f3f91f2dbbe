//! The module initialised anew, and its end meanwhile or afterwards.

use std::thread;
use std::time::{Duration, Instant};

use cascade_hsm_bridge::pkcs11::Error;

use crate::bench::{PIN, admit, on_faulty};

#[test]
fn a_module_that_did_not_let_itself_be_finalized_is_so_at_the_end() {
    on_faulty("renewal::a_module_that_did_not_let_itself_be_finalized_is_so_at_the_end", |bench| {
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        bench.happen_with("break", "[[fault]]\nfunctions = \"C_Finalize\"\nrv = \"CKR_DEVICE_ERROR\"\nnext = 1\n");
        // It may or may not be of use again.
        drop(token.random(8));
        assert_eq!((bench.count("C_Finalize"), bench.count("C_Initialize")), (1, 2));
        tokens.finalize();
        assert_eq!(bench.count("C_Finalize"), 2);
    });
}

#[test]
fn the_end_waits_for_who_initialises_the_module_anew() {
    on_faulty("renewal::the_end_waits_for_who_initialises_the_module_anew", |bench| {
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        bench.happen_with("break", "[[fault]]\nfunctions = \"C_Initialize\"\ndelay-ms = 2000\nnext = 1\n");
        thread::scope(|scope| {
            let renews = scope.spawn(|| token.random(8));
            let since = Instant::now();
            while bench.count("C_Finalize") == 0 {
                assert!(since.elapsed() < Duration::from_secs(60), "it is not initialised anew");
                thread::sleep(Duration::from_millis(5));
            }
            tokens.finalize();
            assert_eq!((bench.count("C_Initialize"), bench.count("C_Finalize")), (2, 2));
            assert_eq!(renews.join().unwrap(), Err(Error::Closed));
        });
        assert_eq!((bench.count("C_Initialize"), bench.count("C_Finalize")), (2, 2));
    });
}
