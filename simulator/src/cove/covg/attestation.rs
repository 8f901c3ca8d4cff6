//! Capabilities, measurements, evidence, secret.

use tsmsim_abi::cove::{
    PAGE_SIZE,
    attcaps::{AttestationCapabilities, MAX_DIGEST_SIZE, MeasurementType},
    claims::register,
    covg::{
        ATTESTATION_CERTIFICATE_CBOR, ATTESTATION_CERTIFICATE_X509, CHALLENGE_SIZE, MAX_PUBLIC_KEY_SIZE,
        MAX_SECRET_SIZE,
    },
    sbi::SbiError,
};
use tsmsim_keys::cove::KeyAlgorithm;
use zerocopy::IntoBytes;

use super::{
    Call,
    access::{Allowed, Refusal, aligned},
    refuse,
};
use crate::{
    cove::{
        build::ensure, event::CoveEvent, evidence::EvidenceRequest, public_key::PublicKey,
        regions::is_aligned,
    },
    fault::{self, FaultAction, FaultPoint},
    journal::Event,
};

const CONFIDENTIAL: Allowed = Allowed::Confidential(SbiError::INVALID_PARAM);

/// Evidence is hardly longer than this; pages up to here are asked for before anything is signed.
const USUAL_EVIDENCE: u64 = 8 * PAGE_SIZE as u64;

const fn fits(size: u64, needed: usize) -> bool {
    size >= needed as u64
}

impl Call<'_, '_> {
    /// `sbi_covg_get_attcaps`.
    pub(super) fn get_attcaps(&mut self) -> Result<u64, Refusal> {
        let [gpa, size, ..] = self.arguments;
        aligned(gpa)?;
        let enough = is_aligned(size) && fits(size, size_of::<AttestationCapabilities>());
        ensure(enough, SbiError::INVALID_PARAM)?;
        self.buffer(gpa, size, CONFIDENTIAL)?;
        let capabilities = self.platform.capabilities();
        self.write(gpa, capabilities.as_bytes())
    }

    /// `sbi_covg_extend_measurement`.
    pub(super) fn extend_measurement(&mut self) -> Result<u64, Refusal> {
        let [gpa, len, index, ..] = self.arguments;
        let size = self.platform.hash().size();
        aligned(gpa)?;
        ensure(len == size as u64, SbiError::INVALID_PARAM)?;
        ensure(self.register_type(index) == Some(MeasurementType::RUNTIME), SbiError::INVALID_PARAM)?;
        let buffer = self.buffer(gpa, len, Allowed::Confidential(SbiError::INVALID_ADDRESS))?;
        let mut digest = [0; MAX_DIGEST_SIZE];
        let digest = digest.get_mut(..size).ok_or(SbiError::FAILED)?;
        self.read(&buffer, digest)?;
        ensure(self.tvm.extend(index, digest), SbiError::INVALID_PARAM)?;
        Ok(0)
    }

    fn register_type(&self, index: u64) -> Option<MeasurementType> {
        self.tvm.register(index)?;
        let initial = index < register::COUNT as u64;
        Some(if initial { MeasurementType::INITIAL } else { MeasurementType::RUNTIME })
    }

    /// `sbi_covg_read_measurement`.
    pub(super) fn read_measurement(&mut self) -> Result<u64, Refusal> {
        let [gpa, size, index, ..] = self.arguments;
        aligned(gpa)?;
        ensure(fits(size, self.platform.hash().size()), SbiError::INVALID_PARAM)?;
        let value = self.tvm.register(index).ok_or(SbiError::INVALID_PARAM)?.to_vec();
        self.buffer(gpa, size, CONFIDENTIAL)?;
        self.write(gpa, &value)
    }

    /// `sbi_covg_retrieve_secret`.
    pub(super) fn retrieve_secret(&mut self) -> Result<u64, Refusal> {
        let [gpa, size, ..] = self.arguments;
        aligned(gpa)?;
        ensure(size <= MAX_SECRET_SIZE as u64, SbiError::INVALID_PARAM)?;
        self.buffer(gpa, size, Allowed::Confidential(SbiError::INVALID_ADDRESS))?;
        let secret = self.tvm.secret.clone().ok_or(self.platform.config().errors.auth)?;
        ensure(fits(size, secret.len()), SbiError::INVALID_PARAM)?;
        self.write(gpa, &secret)
    }

    /// `sbi_covg_get_evidence`.
    pub(super) fn get_evidence(&mut self) -> Result<u64, Refusal> {
        let [key_gpa, key_size, challenge_gpa, format, out_gpa, out_size] = self.arguments;
        for address in [key_gpa, challenge_gpa, out_gpa] {
            aligned(address)?;
        }
        ensure(key_size <= MAX_PUBLIC_KEY_SIZE as u64 && out_size != 0, SbiError::INVALID_PARAM)?;
        let algorithm = self.algorithm(format)?;
        let key_buffer = self.buffer(key_gpa, key_size, CONFIDENTIAL)?;
        let challenge_buffer = self.buffer(challenge_gpa, CHALLENGE_SIZE as u64, CONFIDENTIAL)?;
        let out = self.buffer(out_gpa, out_size, Allowed::Memory)?;
        let mut key = vec![0; usize::try_from(key_size).map_err(|_| SbiError::INVALID_PARAM)?];
        self.read(&key_buffer, &mut key)?;
        let mut challenge = [0; CHALLENGE_SIZE];
        self.read(&challenge_buffer, &mut challenge)?;
        let public_key = match key.as_slice() {
            [] => None,
            key => Some(PublicKey::from_cose(key).ok_or(SbiError::INVALID_PARAM)?),
        };
        self.mapped(&(out.start..out.end.min(out.start + USUAL_EVIDENCE)))?;
        let request = EvidenceRequest { algorithm, public_key, challenge };
        let evidence = self.tvm.evidence(self.platform, &request, self.env);
        let evidence = evidence.map_err(|_| SbiError::FAILED)?;
        self.hand_out(out_gpa, out_size, evidence)
    }

    /// The algorithm of exactly one format that the TSM offers.
    fn algorithm(&self, format: u64) -> Result<KeyAlgorithm, Refusal> {
        let formats = self.platform.config().formats;
        match format {
            ATTESTATION_CERTIFICATE_CBOR if formats.cbor() => Ok(KeyAlgorithm::Ed25519),
            ATTESTATION_CERTIFICATE_X509 if formats.x509() => Ok(KeyAlgorithm::P256),
            _ => refuse(SbiError::INVALID_PARAM),
        }
    }

    /// Writes evidence, or what a fault plan makes of it.
    fn hand_out(&mut self, gpa: u64, size: u64, mut evidence: Vec<u8>) -> Result<u64, Refusal> {
        let point = FaultPoint::COVE_EVIDENCE;
        match fault::consult(self.env.faults, self.env.journal, point) {
            Some(FaultAction::Status(status)) => return refuse(SbiError::from_register(status)),
            Some(FaultAction::Drop) => return Ok(evidence.len() as u64),
            Some(action) => drop(fault::apply(self.env.journal, point, &action, &mut evidence)),
            None => {}
        }
        ensure(fits(size, evidence.len()), SbiError::INVALID_PARAM)?;
        let len = evidence.len();
        let written = self.write(gpa, &evidence)?;
        self.env.journal.record(Event::Cove(CoveEvent::Evidence { len }));
        Ok(written)
    }
}
