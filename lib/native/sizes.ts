/**
 * Sizes that both halves count in. Beside the seam, because most modules that need them work without an addon.
 */

/** Bytes of a fingerprint, a salt and a sequence hash. */
export const HASH_BYTES = 32

/** The same in 32-bit words. */
export const HASH_WORDS = 8

/** Slots of host memory and of a slab begin at multiples of this. */
export const SLOT_ALIGNMENT_BYTES = 4_096

/** What stands before the records in a slab's table: two copies of its superblock. */
export const TABLE_HEADER_BYTES = 8_192

/** Bytes of one slot's record in a slab's table; they count against a disk tier's capacity as the payload does. */
export const RECORD_BYTES = 128
