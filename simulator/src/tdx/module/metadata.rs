//! `TDG.VM.RD`, `TDG.VM.WR`, `TDG.SYS.RD`: metadata fields.

use tsmsim_abi::tdx::{
    metadata::{ContextCode, Field, FieldId},
    status::{OperandId, StatusCode},
};

use super::{Call, access::Refusal, invalid};
use crate::tdx::{registers::Gpr, td::Td};

/// Vendor in `VENDOR_ID`.
const INTEL: u64 = 0x8086;

const fn refusal(code: StatusCode) -> Refusal {
    Refusal::Status(code.status())
}

/// Element `index` of a field whose elements are 64 bits.
fn element(bytes: &[u8], index: u32) -> u64 {
    let (elements, _) = bytes.as_chunks();
    let index = usize::try_from(index).unwrap_or(usize::MAX);
    elements.get(index).copied().map_or(0, u64::from_le_bytes)
}

/// Finds a field that the guest may read. The module knows more fields of its own than it shows to guests.
fn find(
    fields: &'static [Field],
    context: ContextCode,
    id: FieldId,
) -> Result<(&'static Field, u32), Refusal> {
    if !id.bits().names_one_element() {
        return Err(refusal(StatusCode::METADATA_FIELD_ID_INCORRECT));
    }
    Field::find(fields, id).ok_or_else(|| {
        let hidden = FieldId::NAMED.iter().any(|(known, _)| {
            let (known, wanted) = (known.bits(), id.bits());
            ContextCode(known.context_code()) == context
                && known.class_code() == wanted.class_code()
                && known.field_code() == wanted.field_code()
        });
        refusal(if hidden {
            StatusCode::METADATA_FIELD_NOT_READABLE
        } else {
            StatusCode::METADATA_FIELD_ID_INCORRECT
        })
    })
}

/// The element that follows, or [`FieldId::NONE`].
fn next(fields: &'static [Field], field: &Field, element: u32) -> FieldId {
    if element + 1 < field.elements {
        return field.id.element(element + 1);
    }
    let behind = fields.iter().skip_while(|other| other.id != field.id).nth(1);
    behind.map_or(FieldId::NONE, |field| field.id)
}

impl Td {
    fn metadata(&self, id: FieldId, index: u32) -> u64 {
        match id {
            FieldId::TD_UUID => element(&self.uuid, index),
            FieldId::NUM_VCPUS => self.vcpus.len() as u64,
            FieldId::NUM_L2_VMS => self.num_l2_vms.into(),
            FieldId::ATTRIBUTES => self.attributes.into(),
            FieldId::XFAM => self.xfam.into(),
            FieldId::MAX_VCPUS => self.max_vcpus.into(),
            FieldId::GPAW => self.config_flags.gpaw().into(),
            FieldId::TSC_FREQUENCY => self.tsc_frequency.into(),
            FieldId::NOTIFY_ENABLES => self.notify_enables.into(),
            FieldId::CONFIG_FLAGS => self.config_flags.into(),
            FieldId::TD_CTLS => self.td_ctls.into(),
            FieldId::MRTD => element(&self.mr_td, index),
            FieldId::MRCONFIGID => element(&self.mr_config_id, index),
            FieldId::MROWNER => element(&self.mr_owner, index),
            FieldId::MROWNERCONFIG => element(&self.mr_owner_config, index),
            FieldId::RTMR => element(self.rtmr.as_flattened(), index),
            // Of service TDs and migration, of which there is none.
            _ => 0,
        }
    }
}

impl Call<'_, '_> {
    /// `TDG.VM.RD`.
    pub(super) fn vm_rd(&mut self, version: u8) -> Result<(), Refusal> {
        let [vm, id] = [Gpr::Rcx, Gpr::Rdx].map(|register| self.registers[register]);
        if version > 0 {
            self.registers[Gpr::Rdx] = FieldId::NONE.0;
        }
        self.registers[Gpr::R8] = 0;
        if version > 1 {
            return Err(invalid(OperandId::RAX));
        }
        if vm != 0 {
            return Err(invalid(OperandId::RCX));
        }
        let id = FieldId(id);
        if version > 0 && id.is_null() {
            return self.first(Field::TD);
        }
        let (field, index) = find(Field::TD, ContextCode::TD, id)?;
        self.registers[Gpr::R8] = self.td.metadata(field.id, index);
        if version > 0 {
            self.registers[Gpr::Rdx] = next(Field::TD, field, index).0;
        }
        Ok(())
    }

    fn first(&mut self, fields: &'static [Field]) -> Result<(), Refusal> {
        self.registers[Gpr::Rdx] = fields.first().map_or(FieldId::NONE, |field| field.id).0;
        Err(refusal(StatusCode::METADATA_FIRST_FIELD_ID_IN_CONTEXT))
    }

    /// `TDG.VM.WR`: the bits of R8 that R9 selects, among those that a guest may write.
    pub(super) fn vm_wr(&mut self) -> Result<(), Refusal> {
        let [vm, id, value, mask] =
            [Gpr::Rcx, Gpr::Rdx, Gpr::R8, Gpr::R9].map(|register| self.registers[register]);
        self.registers[Gpr::R8] = 0;
        if vm != 0 {
            return Err(invalid(OperandId::RCX));
        }
        let (field, index) = find(Field::TD, ContextCode::TD, FieldId(id))?;
        let old = self.td.metadata(field.id, index);
        let writable = field.guest_write_mask & mask;
        if writable == 0 {
            return Err(refusal(StatusCode::METADATA_FIELD_NOT_WRITABLE));
        }
        if (old ^ value) & mask & !field.guest_write_mask != 0 {
            return Err(refusal(StatusCode::METADATA_FIELD_VALUE_NOT_VALID));
        }
        let new = old & !writable | value & writable;
        match field.id {
            FieldId::NOTIFY_ENABLES => self.td.notify_enables = new.into(),
            FieldId::TD_CTLS => {
                if new != old && !self.td.config_flags.flexible_pending_ve() {
                    return Err(refusal(StatusCode::METADATA_FIELD_VALUE_NOT_VALID));
                }
                self.td.td_ctls = new.into();
            }
            _ => return Err(refusal(StatusCode::METADATA_FIELD_NOT_WRITABLE)),
        }
        self.registers[Gpr::R8] = old;
        Ok(())
    }

    /// `TDG.SYS.RD`.
    pub(super) fn sys_rd(&mut self) -> Result<(), Refusal> {
        let id = FieldId(self.registers[Gpr::Rdx]);
        self.registers[Gpr::Rdx] = FieldId::NONE.0;
        self.registers[Gpr::R8] = 0;
        if id.is_null() {
            return self.first(Field::SYS);
        }
        let (field, index) = find(Field::SYS, ContextCode::SYS, id)?;
        self.registers[Gpr::R8] = match field.id {
            FieldId::VENDOR_ID => INTEL,
            FieldId::MAJOR_VERSION | FieldId::NUM_TDX_FEATURES => 1,
            FieldId::MINOR_VERSION => self.td.version.minor().into(),
            FieldId::TDX_FEATURES0 => self.td.version.features().into(),
            // Attributes, and what belongs to migration and L2 VMs: none.
            _ => 0,
        };
        self.registers[Gpr::Rdx] = next(Field::SYS, field, index).0;
        Ok(())
    }
}
