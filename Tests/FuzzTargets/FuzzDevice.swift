// SPDX-License-Identifier: Apache-2.0
import Helper
import LinuxIO
import Migration
import Synchronization

/// A device made of memory and nothing else, of which one call goes wrong and which can be pulled out.
final class FuzzDevice: MigratableDevice {
  struct Contents {
    var state = MigrationState.running
    var image = [UInt8](repeating: 0xa5, count: 3000)
    var data: FuzzData?
    var isPulled = false
    var calls = 0
    /// How often it was sent towards running.
    var starts = 0
  }

  let name: DeviceName
  let contents = Mutex(Contents())
  private let graph = StateGraph(features: [.stopCopy, .p2p, .preCopy])
  private let failing: Int

  /// - Parameter failing: the number of the call that goes wrong.
  init(_ name: DeviceName, failing: Int) {
    self.name = name
    self.failing = failing
  }

  /// Every call fails from now on: whatever waits for it ends.
  func pull() {
    contents.withLock { contents in
      contents.isPulled = true
      contents.data = nil
    }
  }

  var starts: Int { contents.withLock { $0.starts } }

  fileprivate func call(_ operation: DeviceOperation) throws(DeviceError) {
    let errno: ErrorNumber? = contents.withLock { contents in
      contents.calls += 1
      return contents.isPulled ? .noDevice : contents.calls == failing ? .inputOutput : nil
    }
    if let errno { throw DeviceError(operation, .errno(errno)) }
  }

  func migrationFeatures() -> MigrationFeatures { graph.features }

  func migrationState() throws(DeviceError) -> MigrationState {
    try call(.readState)
    return contents.withLock { $0.state }
  }

  func setMigrationState(_ target: MigrationState) throws(DeviceError) -> (any MigrationData)? {
    try call(.setState(target))
    let opened: FuzzData?? = contents.withLock { contents in
      let from = contents.state
      guard graph.allows(from: from, to: target) else { return nil }
      let opened =
        graph.opensData(from: from, to: target) ? FuzzData(self, contents.image, reads: target.isSaving) : nil
      contents.state = target
      if target == .running || target == .runningP2P && from == .stop { contents.starts += 1 }
      if let opened { contents.data = opened }
      if !target.hasDataDescriptor {
        if from == .resuming, let data = contents.data { contents.image = data.bytes }
        contents.data = nil
      }
      return .some(opened)
    }
    guard let opened else { throw DeviceError(.setState(target), .errno(.invalidArgument)) }
    return opened
  }

  func stopCopySize() throws(DeviceError) -> UInt64? {
    try call(.stopCopySize)
    return contents.withLock { UInt64($0.image.count) }
  }

  func flush() throws(DeviceError) { try call(.flush) }

  func reset() throws(DeviceError) {
    try call(.reset)
    contents.withLock { contents in
      contents.state = .running
      contents.image = []
      contents.data = nil
    }
  }
}

/// What a device's data descriptor would be.
final class FuzzData: MigrationData {
  private weak let device: FuzzDevice?
  private let image: [UInt8]
  private let state: Mutex<(position: Int, written: [UInt8])>

  fileprivate init(_ device: FuzzDevice, _ image: [UInt8], reads: Bool) {
    self.device = device
    self.image = reads ? image : []
    state = Mutex((0, []))
  }

  var bytes: [UInt8] { state.withLock { $0.written } }

  private func check(_ operation: DeviceOperation) throws(DeviceError) {
    guard let device else { throw DeviceError(operation, .errno(.noDevice)) }
    try device.call(operation)
  }

  /// Half of it can be read before the stop.
  private var limit: Int {
    device?.contents.withLock { $0.state } == .stopCopy ? image.count : image.count / 2
  }

  func read(into buffer: inout MutableSpan<UInt8>) throws(DeviceError) -> DataRead {
    try check(.readData)
    let (room, limit) = (buffer.count, limit)
    let part = state.withLock { state in
      let end = max(state.position, min(limit, state.position + min(room, 1000)))
      defer { state.position = end }
      return state.position..<end
    }
    for (index, byte) in image[part].enumerated() { buffer[index] = byte }
    return part.isEmpty ? .end : .bytes(part.count)
  }

  func write(_ bytes: Span<UInt8>) throws(DeviceError) {
    try check(.writeData)
    let copy = bytes.indices.map { bytes[$0] }
    let fits = state.withLock { state in
      guard state.written.count + copy.count <= 1 << 20 else { return false }
      state.written += copy
      return true
    }
    if !fits { throw DeviceError(.writeData, .errno(.invalidArgument)) }
  }

  func preCopyInfo() throws(DeviceError) -> PreCopyInfo {
    try check(.preCopyInfo)
    let limit = limit
    return PreCopyInfo(initialBytes: state.withLock { UInt64(max(0, limit - $0.position)) }, dirtyBytes: 0)
  }
}

/// A host that has these devices.
final class FuzzHost: HelperHost {
  private let devices: [FuzzDevice]

  init(_ devices: [FuzzDevice]) { self.devices = devices }

  func adopt(
    _ device: HelperDevice, _ descriptors: consuming ReceivedDescriptors
  ) throws(HelperFailure) -> AdoptedDevice {
    guard let found = devices.first(where: { $0.name == device.name }) else {
      throw HelperFailure(.noSuch, device: device.device, "no \(device.name)")
    }
    // The first has a log in which nothing ever is, so that a move may come to its end.
    let tracker = found === devices[0] ? QuietTracker() : nil
    return AdoptedDevice(device: found, driver: "fake", tag: []) { _ in tracker.map { [.ready($0)] } ?? [] }
  }

  func reachability(of devices: [DeviceName]) -> Reachability { .assumed(count: devices.count) }
}

private final class QuietTracker: DirtyTracker {
  let kind = TrackerKind.device
  func start(_ map: MappedMemory) {}
  func add(_ run: MappedRun, to map: MappedMemory) -> TrackerContinuity { .kept }
  func stop() {}
  func read<Words: DirtyWords & ~Copyable>(
    _ runs: [MappedRun], for purpose: ReadingPurpose, into bitmap: inout DirtyBitmap<Words>
  ) {}
}
