// Mounts the addon's surface: the names of lib/native/binding.ts, in its order, each with the signature it has there.
#include "binding/calls.h"

namespace kvtier {
namespace {

Napi::Object mount_all(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData<AddonData>(new AddonData(env));

  // describe(): string
  mount<describe>(exports, "describe");
  // initialize(settings: BindingSettings): void
  mount<initialize>(exports, "initialize");
  // openEngine(options: EngineOptions): void
  mount<open_engine>(exports, "openEngine");

  // startOpenMemory(ticket: number, kind: LayoutKindName, shape: GroupShape, slotCount: number, pinFor?: number): void
  mount<start_open_memory>(exports, "startOpenMemory");
  // borrowMemory(kind: LayoutKindName, shape: GroupShape, slotCount: number, regions: readonly Uint8Array[]):
  // StorageHandle
  mount<borrow_memory>(exports, "borrowMemory");
  // startOpenDevice(ticket: number, ordinals: Uint32Array, kind: LayoutKindName, shape: GroupShape,
  //                 slotCount: number): void
  mount<start_open_device>(exports, "startOpenDevice");
  // startBorrowDevice(ticket: number, kind: LayoutKindName, shape: GroupShape, slotCount: number,
  //                   ranges: DeviceRanges): void
  mount<start_borrow_device>(exports, "startBorrowDevice");
  // startImportDevice(ticket: number, kind: LayoutKindName, shape: GroupShape, slotCount: number,
  //                   ordinals: Uint32Array, handles: readonly Uint8Array[], offsets: Float64Array,
  //                   bytes: Float64Array, owner?: number): void
  mount<start_import_device>(exports, "startImportDevice");
  // deviceRanges(storage: StorageHandle): DeviceRanges
  mount<device_ranges>(exports, "deviceRanges");
  // shareDevice(storage: StorageHandle): SharedRanges
  mount<share_device>(exports, "shareDevice");
  // readExternal(value: unknown): ExternalPointer
  mount<read_external>(exports, "readExternal");
  // makeFence(ordinal: number, kind: 'event' | 'stream' | 'ipc', source: bigint | Uint8Array): FenceHandle
  mount<make_fence>(exports, "makeFence");
  // makeReady(storage: StorageHandle): ReadyHandle
  mount<make_ready>(exports, "makeReady");
  // readyEvents(ready: ReadyHandle): BigUint64Array
  mount<ready_events>(exports, "readyEvents");
  // startMeasureDevice(ticket: number, ordinal: number): void
  mount<start_measure_device>(exports, "startMeasureDevice");
  // setDeviceChoices(ordinal: number, choices: Uint8Array, forbidden: number): void
  mount<set_device_choices>(exports, "setDeviceChoices");
  // startOpenStore(ticket: number, root: string, fingerprint: Uint8Array): void
  mount<start_open_store>(exports, "startOpenStore");
  // startOpenSlab(ticket: number, store: StoreHandle, group: number, shape: GroupShape, slotCount: number,
  //               direct: boolean, keepOrphans: boolean, directFor?: StorageHandle | null,
  //               directAlways?: boolean): void
  mount<start_open_slab>(exports, "startOpenSlab");
  // startInspectSlab(ticket: number, directory: string, group: number): void
  mount<start_inspect_slab>(exports, "startInspectSlab");
  // startClose(ticket: number, handle: StorageHandle | StoreHandle): void
  mount<start_close>(exports, "startClose");
  // takeResult(ticket: number): unknown
  mount<take_result>(exports, "takeResult");
  // takeMessage(ticket: number): string
  mount<take_message>(exports, "takeMessage");

  // startTransfer(ticket: number, request: TransferRequest): void
  mount<start_transfer>(exports, "startTransfer");
  // cancel(ticket: number, code: number): void
  mount<cancel>(exports, "cancel");
  // startSeal(ticket: number, storage: StorageHandle, slots: Uint32Array, hashes: Uint8Array): void
  mount<start_seal>(exports, "startSeal");
  // startErase(ticket: number, storage: StorageHandle, slots: Uint32Array): void
  mount<start_erase>(exports, "startErase");
  // startSync(ticket: number, storage: StorageHandle): void
  mount<start_sync>(exports, "startSync");
  // openWindow(storage: StorageHandle, slot: number): ArrayBuffer
  mount<open_window>(exports, "openWindow");
  // closeWindow(window: ArrayBuffer): void
  mount<close_window>(exports, "closeWindow");

  // openImage(): ImageHandle
  mount<open_image>(exports, "openImage");
  // imagePath(image: ImageHandle): string
  mount<image_path>(exports, "imagePath");
  // startReadImage(ticket: number, image: ImageHandle, engine: ImageEngine, sections: readonly ImageSectionKind[],
  //                maxTokens: number): void
  mount<start_read_image>(exports, "startReadImage");
  // startCutImage(ticket: number, image: ImageHandle, section: number, storage: StorageHandle,
  //               moves: Uint32Array): void
  mount<start_cut_image>(exports, "startCutImage");
  // startBuildImage(ticket: number, image: ImageHandle, shape: Uint32Array, tokens: Uint32Array,
  //                 sources: readonly ImageSource[]): void
  mount<start_build_image>(exports, "startBuildImage");
  // startCompareImages(ticket: number, a: ImageHandle, b: ImageHandle): void
  mount<start_compare_images>(exports, "startCompareImages");
  // startCloseImage(ticket: number, image: ImageHandle): void
  mount<start_close_image>(exports, "startCloseImage");

  // canHashTokens(): boolean
  mount<can_hash_tokens>(exports, "canHashTokens");
  // hashTokens(parent: Uint8Array, tokens: Uint32Array, tokensPerBlock: number, extra: Uint8Array,
  //            hashes: Uint8Array): void
  mount<hash_tokens_now>(exports, "hashTokens");
  // startHashTokens(ticket: number, parent: Uint8Array, tokens: Uint32Array, tokensPerBlock: number,
  //                 extra: Uint8Array): void
  mount<start_hash_tokens>(exports, "startHashTokens");

  // startFillPattern(ticket: number, storage: StorageHandle, slots: Uint32Array, hashes: Uint8Array): void
  mount<start_fill_pattern>(exports, "startFillPattern");
  // startCheckPattern(ticket: number, storage: StorageHandle, slots: Uint32Array, hashes: Uint8Array): void
  mount<start_check_pattern>(exports, "startCheckPattern");
  // startMeasureCopy(ticket: number, totalBytes: number, fragmentBytes: number): void
  mount<start_measure_copy>(exports, "startMeasureCopy");
  // startProbe(ticket: number, directory: string): void
  mount<start_probe>(exports, "startProbe");
#if defined(KVTIER_TESTING)
  // testing?: TestingBinding
  exports.Set("testing", make_testing(env));
#endif
  return exports;
}

NODE_API_MODULE(KVTIER_ADDON_NAME, mount_all)

}  // namespace
}  // namespace kvtier
