// SPDX-License-Identifier: GPL-2.0-only
/*
 * Attestation reports of RISC-V CoVE guests (TVMs), through configfs-tsm.
 *
 * The TVM asks the TSM for evidence by the SBI's CoVE guest extension, COVG:
 * riscv-non-isa/riscv-ap-tee, src/sbi_cove.adoc (the calls) and
 * src/attestation.adoc (what the evidence is), document revision 0.7.
 *
 * A report's @inblob is the challenge, 64 bytes. Its @outblob is the
 * certificate that sbi_covg_get_evidence() gives, in the format that the
 * module's parameter "format" names.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cleanup.h>
#include <linux/crypto.h>
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include <linux/string.h>

#include <crypto/ecdh.h>
#include <crypto/kpp.h>

#include <asm/sbi.h>

#include "cove_guest.h"
#include "tsm_compat.h"

/* Most evidence fits the first buffer; the last one is what a report holds. */
#define COVE_EVIDENCE_FIRST	(4 * COVE_PAGE_SIZE)
#define COVE_EVIDENCE_MAX	min(16 * COVE_PAGE_SIZE, TSM_REPORT_OUTBLOB_MAX)

/* How long a busy TSM is asked again: one second in all. */
#define COVE_BUSY_RETRIES	50
#define COVE_BUSY_DELAY_MS	20

#define P256_COORDINATE_SIZE	32
#define P256_POINT_SIZE		(2 * P256_COORDINATE_SIZE)

static_assert(COVE_CHALLENGE_SIZE <= TSM_REPORT_INBLOB_MAX);
/* A page of the kernel has the alignment and the size that COVG asks for. */
static_assert(PAGE_SIZE % COVE_PAGE_SIZE == 0);

/**
 * struct cose_key_p256 - the TVM's public key, as evidence holds it
 * @head: a map of four; kty (1): EC2 (2); crv (-1): P-256 (1)
 * @x_head: x (-2): a string of 32 bytes
 * @x: big endian
 * @y_head: y (-3): a string of 32 bytes
 * @y: big endian
 *
 * COSE_Key (RFC 9052, section 7; RFC 9053, section 7.1.1) in deterministic
 * CBOR (RFC 8949, section 4.2.1).
 */
struct cose_key_p256 {
	u8 head[5];
	u8 x_head[3];
	u8 x[P256_COORDINATE_SIZE];
	u8 y_head[3];
	u8 y[P256_COORDINATE_SIZE];
};

static_assert(sizeof(struct cose_key_p256) == 75);

static const struct cose_key_p256 cose_key_p256 __initconst = {
	.head = { 0xa4, 0x01, 0x02, 0x20, 0x01 },
	.x_head = { 0x21, 0x58, P256_COORDINATE_SIZE },
	.y_head = { 0x22, 0x58, P256_COORDINATE_SIZE },
};

static char *format;
module_param(format, charp, 0444);
MODULE_PARM_DESC(format,
		 "Format of the evidence: cbor or x509 (default: cbor if the TSM has it, else x509)");

/**
 * struct cove_guest - what a report is made with; constant once registered
 * @public_key: a page with the key that evidence certifies
 * @format: one COVE_CERTIFICATE_* bit
 */
struct cove_guest {
	struct cose_key_p256 *public_key;
	u32 format;
};

static struct cove_guest cove_guest;

/* None of these minds a pointer that is NULL, nor the second one an error. */
DEFINE_FREE(cove_page, void *, free_page((unsigned long)_T))
DEFINE_FREE(cove_kpp, struct crypto_kpp *, crypto_free_kpp(_T))
DEFINE_FREE(cove_kpp_request, struct kpp_request *, kpp_request_free(_T))

/*
 * sbi_err_map_linux_errno() gives -ENOTSUPP, which user space does not know,
 * to all but three errors. User space reads these from a report's outblob.
 */
static int covg_errno(long error)
{
	switch (error) {
	case SBI_ERR_COVE_BUSY:
		return -EBUSY;
	case SBI_ERR_NOT_SUPPORTED:
		return -EOPNOTSUPP;
	case SBI_SUCCESS:
	case SBI_ERR_DENIED:
	case SBI_ERR_INVALID_PARAM:
	case SBI_ERR_INVALID_ADDRESS:
		return sbi_err_map_linux_errno(error);
	default:
		return -EIO;
	}
}

/*
 * Buffers are the TSM's to read and write at their physical address, so they
 * come from the page allocator and are mapped linearly. They are confidential
 * memory, as is all memory of a TVM that was not shared with the host.
 */
static void *cove_alloc_page(void)
{
	return (void *)get_zeroed_page(GFP_KERNEL);
}

static bool cove_attcaps_valid(const struct cove_attestation_capabilities *caps)
{
	u32 formats = le32_to_cpu(caps->certificate_formats);
	unsigned int initial = caps->initial_measurements;
	unsigned int count = initial + caps->runtime_measurements;
	unsigned int i;

	if (le32_to_cpu(caps->hash_algorithm) >= COVE_HASH_COUNT)
		return false;
	if (!(formats & (COVE_CERTIFICATE_CBOR | COVE_CERTIFICATE_X509)))
		return false;
	if (!initial || initial > COVE_INITIAL_MEASUREMENTS_MAX ||
	    caps->runtime_measurements > COVE_RUNTIME_MEASUREMENTS_MAX)
		return false;

	for (i = 0; i < count; i++) {
		const struct cove_measurement_register *reg = &caps->msmt_regs[i];
		u32 type = i < initial ? COVE_MEASUREMENT_INITIAL : COVE_MEASUREMENT_RUNTIME;

		if (reg->hash_algorithm != caps->hash_algorithm ||
		    le32_to_cpu(reg->type) != type)
			return false;
	}

	return true;
}

/* Asks what the TSM attests; gives the formats of its evidence. */
static int __init cove_get_formats(u32 *formats)
{
	struct cove_attestation_capabilities *caps;
	struct sbiret ret;

	void *page __free(cove_page) = cove_alloc_page();
	if (!page)
		return -ENOMEM;

	/* The size has to be a multiple of the page, too. */
	ret = sbi_ecall(SBI_EXT_COVG, SBI_EXT_COVG_GET_ATTCAPS, virt_to_phys(page),
			COVE_PAGE_SIZE, 0, 0, 0, 0);
	if (ret.error) {
		pr_err("the TSM gave no attestation capabilities: error %ld\n", ret.error);
		return covg_errno(ret.error);
	}

	caps = page;
	if (!cove_attcaps_valid(caps)) {
		pr_err("the TSM's attestation capabilities are not valid\n");
		return -EPROTO;
	}

	*formats = le32_to_cpu(caps->certificate_formats);
	pr_info("TCB SVN %llu, %u initial and %u runtime measurement registers\n",
		le64_to_cpu(caps->tcb_svn), caps->initial_measurements,
		caps->runtime_measurements);
	return 0;
}

/* One of the formats that the TSM has: the one that was asked for, or the first. */
static int __init cove_choose_format(u32 formats, u32 *chosen)
{
	static const char * const names[] = { "cbor", "x509" };
	int index;

	if (!format) {
		*chosen = formats & COVE_CERTIFICATE_CBOR ?: COVE_CERTIFICATE_X509;
		return 0;
	}

	index = match_string(names, ARRAY_SIZE(names), format);
	if (index < 0) {
		pr_err("there is no format \"%s\"\n", format);
		return -EINVAL;
	}

	*chosen = BIT(index);
	if (!(formats & *chosen)) {
		pr_err("the TSM gives no evidence in the format \"%s\"\n", format);
		return -EOPNOTSUPP;
	}

	return 0;
}

/* Has the crypto API make a private key, which does not leave @tfm. */
static int __init cove_generate_private_key(struct crypto_kpp *tfm)
{
	/* No key in it: "generate one". */
	struct ecdh params = { };
	unsigned int size = crypto_ecdh_key_len(&params);
	int ret;

	char *secret __free(kfree) = kmalloc(size, GFP_KERNEL);
	if (!secret)
		return -ENOMEM;

	ret = crypto_ecdh_encode_key(secret, size, &params);
	if (ret)
		return ret;

	return crypto_kpp_set_secret(tfm, secret, size);
}

/**
 * cove_generate_key() - makes a key pair on P-256, and drops the private key
 * @point: gets the public key, x and y, big endian
 *
 * get_evidence certifies a key of the TVM. configfs-tsm has no attribute for
 * one: callers bind a key of theirs by @inblob, as they do with other TSMs. So
 * the certified key is one that nobody holds. Freeing the transformation
 * zeroes the private key.
 *
 * Return: 0, or a negative errno.
 */
static int __init cove_generate_key(u8 *point)
{
	DECLARE_CRYPTO_WAIT(wait);
	struct scatterlist sg;
	int ret;

	struct crypto_kpp *tfm __free(cove_kpp) = crypto_alloc_kpp("ecdh-nist-p256", 0, 0);
	if (IS_ERR(tfm))
		return PTR_ERR(tfm);

	if (crypto_kpp_maxsize(tfm) != P256_POINT_SIZE)
		return -EINVAL;

	ret = cove_generate_private_key(tfm);
	if (ret)
		return ret;

	struct kpp_request *req __free(cove_kpp_request) = kpp_request_alloc(tfm, GFP_KERNEL);
	if (!req)
		return -ENOMEM;

	sg_init_one(&sg, point, P256_POINT_SIZE);
	kpp_request_set_input(req, NULL, 0);
	kpp_request_set_output(req, &sg, P256_POINT_SIZE);
	kpp_request_set_callback(req, CRYPTO_TFM_REQ_MAY_BACKLOG | CRYPTO_TFM_REQ_MAY_SLEEP,
				 crypto_req_done, &wait);

	return crypto_wait_req(crypto_kpp_generate_public_key(req), &wait);
}

/* Makes the key that evidence certifies. */
static int __init cove_make_key(struct cove_guest *guest)
{
	int ret;

	u8 *point __free(kfree) = kzalloc(P256_POINT_SIZE, GFP_KERNEL);
	if (!point)
		return -ENOMEM;

	ret = cove_generate_key(point);
	if (ret) {
		pr_err("no key could be generated: %d\n", ret);
		return ret;
	}

	guest->public_key = cove_alloc_page();
	if (!guest->public_key)
		return -ENOMEM;

	*guest->public_key = cose_key_p256;
	memcpy(guest->public_key->x, point, P256_COORDINATE_SIZE);
	memcpy(guest->public_key->y, point + P256_COORDINATE_SIZE, P256_COORDINATE_SIZE);
	return 0;
}

/* One call, again while the TSM is busy. */
static int cove_ask(const struct cove_guest *guest, void *challenge, void *buf, size_t size,
		    size_t *len)
{
	unsigned int retries = 0;
	struct sbiret ret;

	for (;;) {
		ret = sbi_ecall(SBI_EXT_COVG, SBI_EXT_COVG_GET_EVIDENCE,
				virt_to_phys(guest->public_key), sizeof(*guest->public_key),
				virt_to_phys(challenge), guest->format, virt_to_phys(buf), size);
		if (ret.error != SBI_ERR_COVE_BUSY || retries++ == COVE_BUSY_RETRIES)
			break;
		if (msleep_interruptible(COVE_BUSY_DELAY_MS))
			return -EINTR;
	}

	if (ret.error)
		return covg_errno(ret.error);

	/* The value is what was written. Nothing, or more than fits, is neither. */
	if (ret.value <= 0 || ret.value > size) {
		pr_err_ratelimited("the TSM says it wrote %ld bytes of %zu\n", ret.value, size);
		return -EPROTO;
	}

	*len = ret.value;
	return 0;
}

/* Evidence in a buffer of this size, copied to where configfs-tsm may free it. */
static int cove_get_evidence(const struct cove_guest *guest, struct tsm_report *report,
			     void *challenge, size_t size)
{
	void *buf, *evidence = NULL;
	size_t len;
	int ret;

	buf = alloc_pages_exact(size, GFP_KERNEL | __GFP_ZERO);
	if (!buf)
		return -ENOMEM;

	ret = cove_ask(guest, challenge, buf, size, &len);
	if (!ret) {
		evidence = kvmemdup(buf, len, GFP_KERNEL);
		if (!evidence)
			ret = -ENOMEM;
	}
	free_pages_exact(buf, size);
	if (ret)
		return ret;

	report->outblob = evidence;
	report->outblob_len = len;
	return 0;
}

static int cove_report_new(struct tsm_report *report, void *data)
{
	const struct cove_guest *guest = data;
	const struct tsm_report_desc *desc = &report->desc;
	size_t size;
	int ret;

	if (desc->inblob_len != COVE_CHALLENGE_SIZE)
		return -EINVAL;

	void *challenge __free(cove_page) = cove_alloc_page();
	if (!challenge)
		return -ENOMEM;
	memcpy(challenge, desc->inblob, desc->inblob_len);

	/*
	 * The TSM does not say how long evidence is. A buffer that is too small
	 * is an invalid parameter; with the largest one, it is another that is.
	 */
	size = COVE_EVIDENCE_FIRST;
	for (;;) {
		ret = cove_get_evidence(guest, report, challenge, size);
		if (ret != -EINVAL || size >= COVE_EVIDENCE_MAX)
			break;
		size = min_t(size_t, 2 * size, COVE_EVIDENCE_MAX);
	}

	if (ret && ret != -EINTR)
		pr_err_ratelimited("the TSM gave no evidence: %d\n", ret);
	return ret;
}

static bool cove_report_attr_visible(int n)
{
	switch (n) {
	case TSM_REPORT_GENERATION:
	case TSM_REPORT_PROVIDER:
		return true;
	}

	return false;
}

static bool cove_report_bin_attr_visible(int n)
{
	switch (n) {
	case TSM_REPORT_INBLOB:
	case TSM_REPORT_OUTBLOB:
		return true;
	}

	return false;
}

static const struct tsm_report_ops cove_tsm_ops = {
	.name = KBUILD_MODNAME,
	.report_new = cove_report_new,
	.report_attr_visible = cove_report_attr_visible,
	.report_bin_attr_visible = cove_report_bin_attr_visible,
};

static int __init cove_guest_init(void)
{
	u32 formats;
	int ret;

	/* Base extension: 0 if there is none, else a number of the extension's. */
	if (sbi_probe_extension(SBI_EXT_COVG) <= 0)
		return -ENODEV;

	ret = cove_get_formats(&formats);
	if (ret)
		return ret;

	ret = cove_choose_format(formats, &cove_guest.format);
	if (ret)
		return ret;

	ret = cove_make_key(&cove_guest);
	if (ret)
		return ret;

	ret = tsm_report_register(&cove_tsm_ops, &cove_guest);
	if (ret)
		free_page((unsigned long)cove_guest.public_key);

	return ret;
}
module_init(cove_guest_init);

static void __exit cove_guest_exit(void)
{
	tsm_report_unregister(&cove_tsm_ops);
	free_page((unsigned long)cove_guest.public_key);
}
module_exit(cove_guest_exit);

MODULE_AUTHOR("The tsmsim contributors");
MODULE_DESCRIPTION("Attestation reports of RISC-V CoVE guests");
MODULE_LICENSE("GPL");
