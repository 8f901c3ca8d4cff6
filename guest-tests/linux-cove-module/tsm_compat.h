/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * configfs-tsm by the names that it has since Linux 6.16, where "tsm" became
 * the name of the device side as well. Not for upstream.
 */

#ifndef TSM_COMPAT_H
#define TSM_COMPAT_H

#include <linux/tsm.h>

#ifndef TSM_REPORT_OUTBLOB_MAX
#define tsm_report_desc			tsm_desc
#define tsm_report_ops			tsm_ops
#define tsm_report_register		tsm_register
#define tsm_report_unregister		tsm_unregister
#define TSM_REPORT_INBLOB_MAX		TSM_INBLOB_MAX
#define TSM_REPORT_OUTBLOB_MAX		TSM_OUTBLOB_MAX
#endif

#endif /* TSM_COMPAT_H */
