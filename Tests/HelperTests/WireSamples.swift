// SPDX-License-Identifier: Apache-2.0
import Migration

@testable import Helper

/// One packet of each kind, and more where its fields can be of several kinds.
enum WireSamples {
  static let uuid = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"

  static let devices: [HelperDevice] = [
    HelperDevice(
      device: 1, name: DeviceName("0000:17:00.2")!, space: 1, tracker: .auto, support: .none, iommufdNumber: nil,
      pageTable: nil, logLimits: nil),
    HelperDevice(
      device: 1 << 31 - 1, name: DeviceName("10000:e1:1f.7")!, space: .max, tracker: .only(.iommu),
      support: .iommufd, iommufdNumber: 3, pageTable: 7, logLimits: 0..<1 << 42),
    HelperDevice(
      device: 5, name: DeviceName(uuid)!, space: 2, tracker: .only(.device), support: .iommufd, iommufdNumber: nil,
      pageTable: nil, logLimits: 1 << 20..<(.max)),
    HelperDevice(
      device: 6, name: DeviceName(uuid)!, space: 2, tracker: .only(.container), support: .container,
      iommufdNumber: nil, pageTable: nil, logLimits: nil),
    HelperDevice(
      device: 7, name: DeviceName(uuid)!, space: 2, tracker: .only(.everything), support: .none, iommufdNumber: nil,
      pageTable: nil, logLimits: nil),
  ]

  static let guest: Range<UInt64> = 0..<0xa0000
  static let mapping = HelperMapping(space: 1, addresses: 1 << 32..<1 << 32 + 0xa0000, guest: 0)
  /// The last page that there can be.
  static let lastPage = UInt64.max - 8191..<UInt64.max - 4095

  static let saves: [HelperSave] = [
    HelperSave(
      preCopy: true, pages: .byHelper, resetAllowed: false, flushes: true, lastResort: .giveUp, downtime: 300_000,
      interval: 10_000, quiescing: 0, loading: 86_400_000_000, stepLimit: 1),
    HelperSave(
      preCopy: false, pages: .byVMM, resetAllowed: true, flushes: false, lastResort: .force, downtime: 0,
      interval: 0, quiescing: nil, loading: nil, stepLimit: nil),
    HelperSave(
      preCopy: false, pages: .none, resetAllowed: false, flushes: false, lastResort: .giveUp, downtime: 1,
      interval: 1, quiescing: 1, loading: nil, stepLimit: 5_000_000),
  ]

  static let requests: [HelperRequest] =
    [
      .hello(major: 1, minor: 0, features: .pages, version: "crosvm 1.2 ünï"),
      .hello(major: 7, minor: .max, features: HelperFeatures(rawValue: .max), version: ""),
      .describe(device: 1), .removeDevice(1 << 31 - 1), .reset(device: 2), .declareDead(device: 3),
      .readBlob(device: 4), .arc(device: 1, .preCopyP2P), .arc(device: 1, .error),
      .link(from: 1, to: 2, isThere: true), .link(from: 2, to: 1, isThere: false),
      .blob(device: 1, offset: 1, size: 1 << 20), .blob(device: 1, offset: UInt64(Int64.max), size: 0),
      .tag(device: 1, offset: 1, size: 32_768), .tag(device: 2, offset: UInt64(Int64.max), size: 0),
      .addMemory(HelperMemory(guest: guest, fileOffset: nil, mapping: nil)),
      .addMemory(HelperMemory(guest: guest, fileOffset: 0, mapping: mapping)),
      .addMemory(HelperMemory(guest: lastPage, fileOffset: 1 << 40, mapping: nil)), .addMapping(mapping),
      .removeMapping(mapping), .addMapping(HelperMapping(space: .max, addresses: lastPage, guest: 4096)),
      .startTracking(pageSize: 4096), .startTracking(pageSize: 1 << 30), .readTracking, .stopTracking,
      .addDirtyPages,
      .step(bytesSent: 0), .quiesce(bytesSent: .max), .complete(bytesSent: 7), .estimate, .vcpusStopped, .commit,
      .beginLoad(HelperLoad(pages: true, resetAllowed: false, stepLimit: nil)),
      .beginLoad(HelperLoad(pages: false, resetAllowed: true, stepLimit: 9)), .resume, .abort, .status,
    ] + devices.map { .addDevice($0) } + saves.map { .beginSave($0) }

  static var forecast: PreCopyForecast {
    var forecast = PreCopyForecast()
    forecast.pageBytes = 1
    forecast.deviceBytes = 2
    forecast.deviceMicroseconds = 3
    forecast.bandwidth = 4
    forecast.dirtyRate = 5
    forecast.reading = 6
    forecast.quiescing = 7
    forecast.loading = 8
    return forecast
  }

  static func decision(_ verdict: PreCopyDecision.Verdict, _ forecast: PreCopyForecast = forecast) -> PreCopyDecision {
    PreCopyDecision(round: 3, forecast: forecast, limit: 0, verdict: verdict)
  }

  static let estimates: [HelperEstimate] = [
    HelperEstimate(decision: nil), HelperEstimate(decision: decision(.goOn), dirty: 9),
    HelperEstimate(decision: decision(.goOn, PreCopyForecast()), inboundLimit: 0),
    HelperEstimate(decision: decision(.awaitInitial(device: 4)), awaited: 4),
    HelperEstimate(decision: decision(.throttle(bytesPerSecond: 77)), inboundLimit: 77),
    HelperEstimate(decision: decision(.stop), dirty: .max, isLast: true), HelperEstimate(decision: decision(.stop)),
    HelperEstimate(decision: decision(.force)), HelperEstimate(decision: decision(.giveUp)),
  ]

  static let failures: [HelperFailure] =
    HelperCode.allCases.map { HelperFailure($0, "\($0), and what to do") }
    + [HelperFailure(.system, device: 3, errno: .noDevice, "ünï"), HelperFailure(.hung, "")]

  static let infos: [HelperDeviceInfo] = [
    HelperDeviceInfo(
      device: 1, state: .error, features: [.stopCopy, .p2p, .preCopy],
      can: [.save, .load, .resume, .needsReset, .isHung],
      tracker: .iommu, stopCopyBytes: 0, driver: "mlx5_vfio_pci", reason: "the first choice"),
    HelperDeviceInfo(
      device: 2, state: nil, features: .stopCopy, can: [], tracker: .everything, stopCopyBytes: nil, driver: "",
      reason: ""),
  ]

  static var replies: [(to: HelperRequest, HelperReply)] {
    let status = HelperStatus(
      phase: .loading, devices: 2, hung: 1, vcpusAreStopped: true, bytes: 1, expectedBytes: nil, memoryBytes: 5)
    return [
      (.commit, .done), (.resume, .done), (.abort, .done),
      (requests[0], .hello(minor: 0, features: .pages, HelperLimits(), version: "1")),
      (.describe(device: 1), .device(infos[0])), (.addDevice(devices[0]), .device(infos[1])),
      (.startTracking(pageSize: 4096), .bitmap(pageSize: 4096, words: 1, dirty: 64)),
      (.readTracking, .bitmap(pageSize: 1 << 30, words: .max, dirty: 0)),
      (.readBlob(device: 1), .blob(device: 1, size: 0)), (.readBlob(device: 1), .blob(device: 1, size: 1 << 20)),
      (.status, .status(status)),
    ] + estimates.map { (.estimate, .estimate($0)) } + failures.map { (.commit, .failure($0)) }
  }

  static let events: [HelperEvent] =
    HelperPhase.allCases.map { .phase($0) }
    + MigrationState.allCases.map {
      .arc(device: 1, from: $0, to: $0, error: nil, microseconds: 1)
    } + estimates.map { .decision($0) } + failures.map { .failed($0) } + [
      .progress(device: 1, DeviceProgress(state: nil, bytes: 1, preCopyBytes: 2, expectedBytes: nil)),
      .progress(device: 1, DeviceProgress(state: .stop, bytes: 1, preCopyBytes: 2, expectedBytes: 3)),
      .arc(device: 2, from: nil, to: .stop, error: .noDevice, microseconds: .max),
      .hung(device: 1, .quiescing, microseconds: 5_000_000, "saying STOP"),
      .slow(device: 0, .preCopy, microseconds: 1, "reading"), .reset(device: 1, .preCopy, "for the 2nd time"),
      .ready(estimates[6]), .throttle(.preCopy, "slower"), .tracker(device: 0, .preCopy, "replaced"),
      .linkLost(.stopped, "reset by peer"), .loaded, .tag(device: 2, .loading, "trust is missing"),
    ]
}
