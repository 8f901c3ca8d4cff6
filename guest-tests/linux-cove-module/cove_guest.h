/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * CoVE guest extension (COVG) of the RISC-V SBI.
 *
 * Names, numbers and layouts: riscv-non-isa/riscv-ap-tee, src/sbi_cove.adoc,
 * "COVE Guest Extension (EID #0x434F5647 "COVG")", document revision 0.7.
 */

#ifndef COVE_GUEST_H
#define COVE_GUEST_H

#include <linux/bits.h>
#include <linux/build_bug.h>
#include <linux/sizes.h>
#include <linux/stddef.h>
#include <linux/types.h>

#define SBI_EXT_COVG			0x434F5647

enum sbi_ext_covg_fid {
	SBI_EXT_COVG_GET_ATTCAPS = 6,
	SBI_EXT_COVG_GET_EVIDENCE = 8,
};

/*
 * The specification names SBI_ERR_BUSY as an error of get_evidence, but gives
 * it no number, and no version of the SBI has one. This one is a proposal, far
 * from those that the SBI may assign next.
 */
#define SBI_ERR_COVE_BUSY		-1002

/* Of addresses, and of some lengths; not the kernel's idea of a page. */
#define COVE_PAGE_SIZE			SZ_4K

/* get_evidence has no length for it: the claim is "bytes .size 64". */
#define COVE_CHALLENGE_SIZE		64

/* Bits of certificate_formats, and the argument of get_evidence. */
#define COVE_CERTIFICATE_CBOR		BIT(0)
#define COVE_CERTIFICATE_X509		BIT(1)

enum cove_hash_algorithm {
	COVE_HASH_SHA384,
	COVE_HASH_SHA512,
	COVE_HASH_SHA3_384,
	COVE_HASH_SHA3_512,
	COVE_HASH_COUNT,
};

enum cove_measurement_type {
	COVE_MEASUREMENT_INITIAL,
	COVE_MEASUREMENT_RUNTIME,
};

#define COVE_INITIAL_MEASUREMENTS_MAX	8
#define COVE_RUNTIME_MEASUREMENTS_MAX	18
#define COVE_MEASUREMENTS_MAX \
	(COVE_INITIAL_MEASUREMENTS_MAX + COVE_RUNTIME_MEASUREMENTS_MAX)

/**
 * struct cove_measurement_register - describes a measurement register
 * @hash_algorithm: &enum cove_hash_algorithm, the same for all registers
 * @type: &enum cove_measurement_type
 * @tcg_pcr_index: the PCR of a TPM that it stands for, 0xff for none
 * @reserved: padding
 */
struct cove_measurement_register {
	__le32 hash_algorithm;
	__le32 type;
	u8 tcg_pcr_index;
	u8 reserved[3];
};

static_assert(sizeof(struct cove_measurement_register) == 12);

/**
 * struct cove_attestation_capabilities - what sbi_covg_get_attcaps() writes
 * @tcb_svn: security version of the TCB
 * @hash_algorithm: &enum cove_hash_algorithm of measurements
 * @certificate_formats: COVE_CERTIFICATE_* that evidence may be asked for in
 * @initial_measurements: registers that are final since the launch, at least 1
 * @runtime_measurements: registers that the TVM may extend, none or more
 * @reserved1: padding
 * @msmt_regs: the initial registers, then the runtime registers
 * @reserved: padding
 */
struct cove_attestation_capabilities {
	__le64 tcb_svn;
	__le32 hash_algorithm;
	__le32 certificate_formats;
	u8 initial_measurements;
	u8 runtime_measurements;
	u8 reserved1[2];
	struct cove_measurement_register msmt_regs[COVE_MEASUREMENTS_MAX];
	u8 reserved[4];
};

static_assert(offsetof(struct cove_attestation_capabilities, msmt_regs) == 20);
static_assert(sizeof(struct cove_attestation_capabilities) == 336);
static_assert(sizeof(struct cove_attestation_capabilities) <= COVE_PAGE_SIZE);

#endif /* COVE_GUEST_H */
