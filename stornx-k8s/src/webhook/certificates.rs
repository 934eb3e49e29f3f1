//! The certificate that the webhook shows, and who vouches for it.
//!
//! Without files, this process is its own authority: a key pair that is made at the start,
//! never leaves the process and is trusted by nobody but the API server, for this webhook
//! alone (`caBundle`). It signs serving certificates of [`LIFETIME`] and makes the next one
//! when two thirds of that are over. The authority lasts as long as any process, so that a
//! renewal changes nothing for the API server.
//!
//! With files (cert-manager writes such), what is in them is shown, and read again when it
//! changes; who vouches for it is then somebody else's to say. Files that cannot be used
//! leave the certificate before them in place.

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::{
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use stornx_core::units::{Span, Timestamp};

/// Of a serving certificate. Long enough that ten days remain for a renewal, short enough
/// that a key that got out is of little use.
pub(crate) const LIFETIME: Span = Span::from_seconds(30 * 24 * 3600);
/// Of the authority: beyond the life of any process.
const AUTHORITY: Span = Span::from_seconds(10 * 365 * 24 * 3600);
/// How far behind ours the clock of an API server may be.
const SKEW: Span = Span::from_seconds(3600);

/// What the server shows: `None` before there is anything.
#[derive(Debug, Default)]
pub(crate) struct Shown(RwLock<Option<Arc<CertifiedKey>>>);

impl Shown {
    pub(crate) fn set(&self, key: CertifiedKey) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(key));
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Where certificates come from.
pub(crate) enum Keeper {
    /// From an authority of our own.
    Own(Box<Own>),
    /// From files.
    Files(Files),
}

impl Keeper {
    /// The certificate to show from now on; `None`: the one before is still good.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub(crate) fn turn(&mut self, now: Timestamp) -> Result<Option<CertifiedKey>, String> {
        match self {
            Self::Own(own) => own.turn(now).map_err(|error| error.to_string()),
            Self::Files(files) => files.turn(),
        }
    }

    /// The authority to trust, in PEM; `None` when it is not ours to say.
    pub(crate) fn authority(&self) -> Option<&str> {
        match self {
            Self::Own(own) => own.made.as_ref().map(|made| made.authority_pem.as_str()),
            Self::Files(_) => None,
        }
    }
}

/// An authority of this process.
pub(crate) struct Own {
    /// The names and addresses by which the API server knows us.
    names: Vec<String>,
    made: Option<Made>,
}

struct Made {
    issuer: Issuer<'static, KeyPair>,
    authority_pem: String,
    authority_until: Timestamp,
    renew_at: Timestamp,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("a certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    #[error("a certificate cannot be used: {0}")]
    Use(#[from] rustls::Error),
}

impl Own {
    pub(crate) const fn new(names: Vec<String>) -> Self {
        Self { names, made: None }
    }

    fn turn(&mut self, now: Timestamp) -> Result<Option<CertifiedKey>, Failure> {
        self.made.take_if(|made| now.after(LIFETIME) >= made.authority_until);
        let mut made = match self.made.take() {
            Some(made) if now < made.renew_at => {
                self.made = Some(made);
                return Ok(None);
            }
            Some(made) => made,
            None => authority(now)?,
        };
        let key = serving(&self.names, &made.issuer, now)?;
        made.renew_at = now.after(Span::from_millis(LIFETIME.as_millis() / 3 * 2));
        self.made = Some(made);
        Ok(Some(key))
    }
}

fn authority(now: Timestamp) -> Result<Made, Failure> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut params = valid(CertificateParams::new(Vec::new())?, now, AUTHORITY);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(DnType::CommonName, "StornX webhook authority");
    let authority_pem = params.self_signed(&key)?.pem();
    Ok(Made {
        issuer: Issuer::new(params, key),
        authority_pem,
        authority_until: now.after(AUTHORITY),
        renew_at: now,
    })
}

fn serving(
    names: &[String],
    issuer: &Issuer<'static, KeyPair>,
    now: Timestamp,
) -> Result<CertifiedKey, Failure> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut params = valid(CertificateParams::new(names.to_vec())?, now, LIFETIME);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.distinguished_name.push(DnType::CommonName, "StornX webhook");
    let certificate = params.signed_by(&key, issuer)?;
    let private = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    Ok(CertifiedKey::from_der(vec![certificate.der().clone()], private, &provider())?)
}

fn valid(mut params: CertificateParams, now: Timestamp, span: Span) -> CertificateParams {
    // Certificates end with the year 9999 at the latest; no clock is there.
    const LATEST: u64 = 200_000_000_000_000;
    let at = |time: Timestamp| {
        date_time_ymd(1970, 1, 1) + Duration::from_millis(time.as_millis().min(LATEST))
    };
    params.not_before =
        at(Timestamp::from_millis(now.as_millis().saturating_sub(SKEW.as_millis())));
    params.not_after = at(now.after(span));
    params
}

/// The one provider of cryptography of the whole program.
pub(crate) fn provider() -> CryptoProvider {
    ring::default_provider()
}

/// Files that somebody else renews.
pub(crate) struct Files {
    certificate: PathBuf,
    key: PathBuf,
    /// What was in them when they were last good.
    good: Option<(Vec<u8>, Vec<u8>)>,
}

impl Files {
    pub(crate) const fn new(certificate: PathBuf, key: PathBuf) -> Self {
        Self { certificate, key, good: None }
    }

    fn turn(&mut self) -> Result<Option<CertifiedKey>, String> {
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
        };
        let both = (read(&self.certificate)?, read(&self.key)?);
        if self.good.as_ref() == Some(&both) {
            return Ok(None);
        }
        let says = |path: &PathBuf, error: &dyn std::fmt::Display| {
            format!("{} cannot be used: {error}", path.display())
        };
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&both.0)
            .collect::<Result<_, _>>()
            .map_err(|error| says(&self.certificate, &error))?;
        if chain.is_empty() {
            return Err(says(&self.certificate, &"there is no certificate in it"));
        }
        let private =
            PrivateKeyDer::from_pem_slice(&both.1).map_err(|error| says(&self.key, &error))?;
        // In the middle of a renewal the files may not belong together: the next look
        // finds both.
        let key = CertifiedKey::from_der(chain, private, &provider())
            .map_err(|error| says(&self.certificate, &error))?;
        self.good = Some(both);
        Ok(Some(key))
    }
}

#[cfg(test)]
mod tests {
    use rustls::{
        RootCertStore,
        client::{WebPkiServerVerifier, danger::ServerCertVerifier},
        pki_types::{ServerName, UnixTime},
    };

    use super::*;

    const DAY: u64 = 24 * 3600 * 1000;
    const START: u64 = 1_795_000_000_000;

    fn own(names: &[&str]) -> Keeper {
        Keeper::Own(Box::new(Own::new(names.iter().map(|name| (*name).to_owned()).collect())))
    }

    fn at(days: u64) -> Timestamp {
        Timestamp::from_millis(START + days * DAY)
    }

    /// Whether a client that trusts `authority` accepts a certificate for a name.
    fn accepted(authority: &str, key: &CertifiedKey, name: &str, days: u64) -> bool {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider().into())
            .build()
            .unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_millis(at(days).as_millis()));
        let end = key.end_entity_cert().unwrap();
        verifier.verify_server_cert(end, &[], &name, &[], now).is_ok()
    }

    #[test]
    fn certificates_are_renewed_under_the_same_authority() {
        let mut keeper = own(&["stornx-webhook.stornx.svc", "10.0.0.7"]);
        assert_eq!(keeper.authority(), None, "nothing is made before it is needed");
        let first = keeper.turn(at(0)).unwrap().unwrap();
        let authority = keeper.authority().unwrap().to_owned();
        for name in ["stornx-webhook.stornx.svc", "10.0.0.7"] {
            assert!(accepted(&authority, &first, name, 0), "{name}");
            assert!(accepted(&authority, &first, name, 29), "{name}");
            assert!(!accepted(&authority, &first, name, 31), "{name}");
        }
        assert!(!accepted(&authority, &first, "other.stornx.svc", 0));
        assert!(keeper.turn(at(19)).unwrap().is_none());
        let second = keeper.turn(at(20)).unwrap().unwrap();
        assert_eq!(keeper.authority(), Some(authority.as_str()));
        assert!(accepted(&authority, &second, "10.0.0.7", 31));
        assert!(keeper.turn(at(21)).unwrap().is_none());
        // A process that slept through its renewal is as good as new afterwards.
        let late = keeper.turn(at(90)).unwrap().unwrap();
        assert!(accepted(&authority, &late, "10.0.0.7", 100));
    }

    #[test]
    fn an_authority_ends_before_its_certificates_do() {
        let mut keeper = own(&["a.b.svc"]);
        keeper.turn(at(0)).unwrap().unwrap();
        let authority = keeper.authority().unwrap().to_owned();
        let key = keeper.turn(at(3640)).unwrap().unwrap();
        assert_ne!(keeper.authority().unwrap(), authority);
        assert!(accepted(keeper.authority().unwrap(), &key, "a.b.svc", 3660));
    }

    #[test]
    fn two_processes_do_not_trust_each_other() {
        let (mut one, mut other) = (own(&["a.b.svc"]), own(&["a.b.svc"]));
        one.turn(at(0)).unwrap();
        let key = other.turn(at(0)).unwrap().unwrap();
        assert!(!accepted(one.authority().unwrap(), &key, "a.b.svc", 0));
    }

    #[test]
    fn files_are_read_again_when_they_change() {
        let folder =
            std::env::temp_dir().join(format!("stornx-certificates-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (certificate, key) = (folder.join("tls.crt"), folder.join("tls.key"));
        let mut keeper = Keeper::Files(Files::new(certificate.clone(), key.clone()));
        let missing = keeper.turn(at(0)).unwrap_err();
        assert!(missing.contains("tls.crt"), "{missing}");
        let make = || {
            let pair = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec!["a.b.svc".to_owned()]).unwrap();
            (params.self_signed(&pair).unwrap().pem(), pair.serialize_pem())
        };
        let (first, second) = (make(), make());
        std::fs::write(&certificate, &first.0).unwrap();
        std::fs::write(&key, &first.1).unwrap();
        assert!(keeper.turn(at(0)).unwrap().is_some());
        assert!(keeper.turn(at(0)).unwrap().is_none());
        assert_eq!(keeper.authority(), None);
        // Half a renewal.
        std::fs::write(&certificate, &second.0).unwrap();
        let odd = keeper.turn(at(0)).unwrap_err();
        assert!(odd.contains("cannot be used"), "{odd}");
        std::fs::write(&key, &second.1).unwrap();
        assert!(keeper.turn(at(0)).unwrap().is_some());
        for broken in ["", "no certificate"] {
            std::fs::write(&certificate, broken).unwrap();
            assert!(keeper.turn(at(0)).is_err());
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
