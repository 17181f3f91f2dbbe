//! The table of vendors: by what their modules are known, which places these read, and hints for what fails.
#![forbid(unsafe_code)]

use super::vendor::{Place, Topic, Vendor};

const fn file(variable: &'static str, otherwise: &'static [&'static str]) -> Place {
    Place { variable, otherwise, is_filled: false }
}

/// Every vendor that something is known of. Those whose module stands before another's come first.
pub(super) static VENDORS: &[Vendor] = &[
    Vendor {
        name: "p11-kit",
        marks: &["p11-kit", "pkcs#11 kit"],
        places: &[],
        hints: &[
            (Topic::Missing, "Debian has it in the package p11-kit-modules, as p11-kit-client.so"),
            (
                Topic::Initialize,
                "P11_KIT_SERVER_ADDRESS names the socket of a running p11-kit server, as unix:path=/run/p11-kit/pkcs11",
            ),
            (
                Topic::NoToken,
                "the server shows only the tokens that its command line names; its user has to see them too",
            ),
            (
                Topic::Rights,
                "the socket of p11-kit server is its own user's; run it with --user and --group of the bridge",
            ),
            (Topic::Login, "the PIN is that of the token at the other end, which p11-kit server shows"),
        ],
    },
    Vendor {
        name: "SoftHSM",
        marks: &["softhsm"],
        places: &[file("SOFTHSM2_CONF", &["/etc/softhsm/softhsm2.conf", "/etc/softhsm2.conf"])],
        hints: &[
            (
                Topic::Missing,
                "Debian has it in the package softhsm2, as /usr/lib/softhsm/libsofthsm2.so; others in /usr/lib64/pkcs11",
            ),
            (
                Topic::Initialize,
                "SOFTHSM2_CONF names softhsm2.conf; the bridge's user has to read it, and to write in its directories.tokendir",
            ),
            (
                Topic::NoToken,
                "softhsm2-util --init-token --free --label NAME makes one; run it as the user that the bridge becomes",
            ),
            (
                Topic::Login,
                "the PIN is the one of softhsm2-util --init-token; pkcs11-tool --init-pin sets another, with the SO PIN",
            ),
            (
                Topic::Rights,
                "on Debian the group softhsm may; the token's own directory belongs to whoever initialised it",
            ),
        ],
    },
    Vendor {
        name: "YubiHSM 2",
        marks: &["yubihsm", "yubico"],
        places: &[file("YUBIHSM_PKCS11_CONF", &[])],
        hints: &[
            (Topic::Missing, "yubihsm_pkcs11.so comes with Yubico's SDK, in the package yubihsm-pkcs11"),
            (
                Topic::Initialize,
                "YUBIHSM_PKCS11_CONF names yubihsm_pkcs11.conf, with connector=http://127.0.0.1:12345 or yhusb://",
            ),
            (
                Topic::NoToken,
                "is yubihsm-connector running, and the device plugged in? over USB the bridge's user needs a udev rule",
            ),
            (
                Topic::Login,
                "the PIN is the authentication key's number, four hexadecimal digits, and its password: 0001password",
            ),
            (
                Topic::Generate,
                "the authentication key needs generate-asymmetric-key, the sign- rights, a domain in common, and put-opaque or id-length = 2, label-max = 40",
            ),
            (
                Topic::Session,
                "the device has 16 sessions for all programs together; max-sessions leaves some to the others",
            ),
            (
                Topic::DataObject,
                "its module hangs after a private data object and cuts long ones; the bridge keeps nothing in them",
            ),
        ],
    },
    Vendor {
        name: "NetHSM",
        marks: &["nethsm", "nitrokey"],
        places: &[file("P11NETHSM_CONFIG_FILE", &["/etc/nitrokey/p11nethsm.conf"])],
        hints: &[
            (
                Topic::Missing,
                "Nitrokey publishes nethsm-pkcs11 for each C library; take the glibc one for a glibc system",
            ),
            (
                Topic::Initialize,
                "P11NETHSM_CONFIG_FILE names p11nethsm.conf, with the address, the certificate's fingerprint and the users",
            ),
            (Topic::NoToken, "each slot of p11nethsm.conf is a token; the NetHSM has to be unlocked and operational"),
            (
                Topic::Login,
                "the PIN is the operator's password; if p11nethsm.conf holds it, say login = \"none\" in [[token]]",
            ),
            (
                Topic::Generate,
                "to make and destroy keys the slot in p11nethsm.conf needs an administrator beside the operator",
            ),
            (Topic::DataObject, "it has none, which does no harm: the bridge keeps nothing in them"),
        ],
    },
    Vendor {
        name: "Luna",
        marks: &["luna", "safenet", "thales", "chrystoki", "cryptoki2", "gemalto"],
        places: &[file("ChrystokiConfigurationPath", &["/etc/Chrystoki.conf"])],
        hints: &[
            (
                Topic::Missing,
                "the Luna client has it as libCryptoki2_64.so in /usr/safenet/lunaclient/lib, the DPoD client where it was unpacked",
            ),
            (
                Topic::Initialize,
                "ChrystokiConfigurationPath names the directory of Chrystoki.conf; the unit needs MemoryDenyWriteExecute=no",
            ),
            (
                Topic::NoToken,
                "lunacm lists the partitions; the client has to be registered with the HSM, and the partition assigned to it",
            ),
            (
                Topic::Login,
                "the PIN is the Crypto Officer's password; a partition with PED has to be activated, a first password changed",
            ),
            (
                Topic::Generate,
                "a Crypto User makes no keys; log in as Crypto Officer, and see the partition's policies with lunacm",
            ),
            (Topic::Rights, "put the bridge's user into the group hsmusers"),
            (
                Topic::Session,
                "a partition has 64 sessions or so for all programs; max-sessions leaves some to the others",
            ),
        ],
    },
    Vendor {
        name: "AWS CloudHSM",
        marks: &["cloudhsm", "amazon"],
        places: &[file("", &["/opt/cloudhsm/etc/cloudhsm-pkcs11.cfg"])],
        hints: &[
            (Topic::Missing, "the package cloudhsm-pkcs11 (SDK 5) has it as /opt/cloudhsm/lib/libcloudhsm_pkcs11.so"),
            (
                Topic::Initialize,
                "configure-pkcs11 -a ADDRESS names the cluster; customerCA.crt has to be in /opt/cloudhsm/etc",
            ),
            (Topic::NoToken, "the cluster has to be active and its port 2223 reachable"),
            (Topic::Login, "the PIN is that of a crypto user, as name:password; five wrong ones lock him out"),
            (
                Topic::Generate,
                "a cluster of one HSM makes no keys that last unless configure-pkcs11 --disable-key-availability-check",
            ),
        ],
    },
    Vendor {
        name: "nShield",
        marks: &["nshield", "ncipher", "cknfast", "nfast", "entrust"],
        places: &[file("", &["/opt/nfast/cknfastrc"])],
        hints: &[
            (Topic::Missing, "Security World has it as /opt/nfast/toolkits/pkcs11/libcknfast.so"),
            (
                Topic::Initialize,
                "the hardserver has to run (/opt/nfast/bin/enquiry shows it), and the module to be in its Security World",
            ),
            (
                Topic::NoToken,
                "ppmk makes a softcard, createocs a card set; CKNFAST_LOADSHARING=1 shows softcards as tokens",
            ),
            (Topic::Login, "the slot of the accelerator takes no PIN; name the softcard's or card set's token"),
            (
                Topic::Generate,
                "CKNFAST_OVERRIDE_SECURITY_ASSURANCES says what templates the module refuses; its log says which it was",
            ),
            (Topic::Rights, "put the bridge's user into the group nfast"),
        ],
    },
    Vendor {
        name: "openCryptoki",
        marks: &["opencryptoki", "meta pkcs11"],
        places: &[file("", &["/etc/opencryptoki/opencryptoki.conf"])],
        hints: &[
            (
                Topic::Missing,
                "Debian has it in the package libopencryptoki0, as libopencryptoki.so in the directory opencryptoki",
            ),
            (Topic::Initialize, "pkcsslotd has to run, and the bridge's user to be in the group pkcs11"),
            (Topic::NoToken, "pkcsconf -I -c SLOT initialises one, pkcsconf -P and -u set its PINs"),
            (Topic::Login, "a new token's PINs have to be changed before it serves: pkcsconf -P, then -u, then -p"),
            (Topic::Rights, "put the bridge's user into the group pkcs11"),
        ],
    },
    Vendor {
        name: "tpm2-pkcs11",
        marks: &["tpm2", "tpm2.0"],
        places: &[Place { variable: "TPM2_PKCS11_STORE", otherwise: &["/etc/tpm2_pkcs11"], is_filled: true }],
        hints: &[
            (Topic::Missing, "Debian has it in the package libtpm2-pkcs11-1, as libtpm2_pkcs11.so.1"),
            (
                Topic::Initialize,
                "TPM2_PKCS11_STORE names the store's directory, TPM2_PKCS11_TCTI the way to the TPM, as device:/dev/tpmrm0",
            ),
            (Topic::NoToken, "tpm2_ptool init and tpm2_ptool addtoken make one, in the store of TPM2_PKCS11_STORE"),
            (Topic::Generate, "a resource manager has to stand before the TPM: /dev/tpmrm0 or tpm2-abrmd"),
            (Topic::Rights, "put the bridge's user into the group tss, which may use /dev/tpmrm0"),
            (Topic::Login, "the PIN is the one of tpm2_ptool addtoken --userpin"),
        ],
    },
    Vendor {
        name: "Kryoptic",
        marks: &["kryoptic"],
        places: &[file("KRYOPTIC_CONF", &[])],
        hints: &[
            (Topic::Missing, "it is built from its source, as libkryoptic_pkcs11.so"),
            (
                Topic::Initialize,
                "KRYOPTIC_CONF names a TOML file with [[slots]], whose dbargs is a file that the bridge's user writes",
            ),
            (Topic::NoToken, "pkcs11-tool --init-token, then --login --login-type so --init-pin, make one"),
            (Topic::Login, "PINs have eight characters or more"),
            (Topic::Session, "serialize = true in [[token]] keeps it from locking up where a login meets another call"),
        ],
    },
    Vendor {
        name: "Utimaco",
        marks: &["utimaco", "cs_pkcs11", "cryptoserver"],
        places: &[file("CS_PKCS11_R3_CFG", &["/etc/utimaco/cs_pkcs11_R3.cfg"]), file("CS_PKCS11_R2_CFG", &[])],
        hints: &[
            (Topic::Missing, "libcs_pkcs11_R3.so comes in the PKCS#11 part of the SecurityServer's package"),
            (
                Topic::Initialize,
                "CS_PKCS11_R3_CFG names cs_pkcs11_R3.cfg, whose Device is the address of the CryptoServer",
            ),
            (Topic::NoToken, "p11tool2 with InitToken and InitPIN makes one in a slot"),
            (Topic::Session, "the device has 128 sessions or so; max-sessions leaves some to the others"),
            (Topic::Login, "the PIN is the one that p11tool2 with InitPIN has set in that slot"),
        ],
    },
    Vendor {
        name: "Securosys Primus",
        marks: &["securosys", "primus"],
        places: &[
            file("SECUROSYS_PKCS11_CONF", &["/etc/primus/primus.cfg", "/usr/local/primus/etc/primus.cfg"]),
            file("SECUROSYS_SECRETS_CONF", &["/etc/primus/.secrets.cfg", "/usr/local/primus/etc/.secrets.cfg"]),
        ],
        hints: &[
            (Topic::Missing, "the vendor's PKCS#11 provider has it as /usr/local/primus/lib/libprimusP11.so"),
            (Topic::Initialize, "primus.cfg names the HSMs and the user; ppin -a -e USER fetches the permanent secret"),
            (Topic::Login, "the PIN is the PKCS#11 password of the partition, not the set-up password"),
            (Topic::Rights, "put the bridge's user into the group primus"),
            (
                Topic::NoToken,
                "each partition that primus.cfg names is a token, and .secrets.cfg needs its secret from ppin",
            ),
        ],
    },
    Vendor {
        name: "Fortanix",
        marks: &["fortanix", "sdkms"],
        places: &[file("FORTANIX_PKCS11_CONFIG_PATH", &["/etc/fortanix/pkcs11.conf"])],
        hints: &[
            (Topic::Missing, "the vendor's PKCS#11 library for DSM is fortanix_pkcs11.so"),
            (
                Topic::Initialize,
                "FORTANIX_PKCS11_CONFIG_PATH names pkcs11.conf, else /etc/fortanix/pkcs11.conf, with the API's address",
            ),
            (
                Topic::Login,
                "the PIN is the API key of the application; if pkcs11.conf holds it, say login = \"none\" in [[token]]",
            ),
            (Topic::NoToken, "the service at the address in pkcs11.conf has to be reachable from here"),
        ],
    },
    Vendor {
        name: "Google Cloud KMS",
        marks: &["kmsp11", "google"],
        places: &[file("KMS_PKCS11_CONFIG", &[])],
        hints: &[
            (Topic::Missing, "Google's release of libkmsp11.so is unpacked, and needs no installation"),
            (
                Topic::Initialize,
                "KMS_PKCS11_CONFIG names a YAML file with the key rings, which nobody else may write; credentials are Google's",
            ),
            (
                Topic::Login,
                "the library proves nobody by a PIN; say login = \"none\" in [[token]], and have clients prove themselves",
            ),
            (
                Topic::Generate,
                "the library wants an attribute of its own in templates, which key-template in [[token]] adds",
            ),
            (Topic::NoToken, "each key ring in the file that KMS_PKCS11_CONFIG names is a token"),
        ],
    },
    Vendor {
        name: "NSS",
        marks: &["softokn", "mozilla foundation"],
        places: &[],
        hints: &[
            (Topic::Missing, "Debian has it in the package libnss3, as libsoftokn3.so"),
            (
                Topic::Initialize,
                "it wants parameters in C_Initialize, which the bridge does not give: a library that does has to stand before it",
            ),
            (Topic::NoToken, "certutil -N makes its database, in the directory that its parameters name"),
            (Topic::Login, "the PIN is the password of its database, which certutil -W changes"),
        ],
    },
    // Last: what it says of itself is also what it says of cards by others.
    Vendor {
        name: "OpenSC",
        marks: &["smartcard-hsm", "cardcontact", "opensc", "pico-hsm"],
        places: &[file("OPENSC_CONF", &[])],
        hints: &[
            (Topic::Missing, "Debian has it in the package opensc-pkcs11, as opensc-pkcs11.so"),
            (
                Topic::NoToken,
                "pcscd has to run (opensc-tool -l lists readers), and polkit to let the bridge's user reach it",
            ),
            (
                Topic::Login,
                "sc-hsm-tool shows the tries that are left; pkcs11-tool --login-type so --init-pin sets a new PIN",
            ),
            (Topic::Generate, "a card takes its time for RSA keys: generate-timeout in [pkcs11] may have to be longer"),
            (
                Topic::DataObject,
                "its module cannot destroy them, and long ones kill it; the bridge keeps nothing in them",
            ),
            (Topic::Session, "a card may have room for one session (PIV cards): other programs have to leave it alone"),
        ],
    },
];
