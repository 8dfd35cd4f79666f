// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
package import Migration
package import Synchronization

/// Counts the calls of all devices of a run, and makes one of them go wrong.
package final class Script: Sendable {
  package enum Event: Sendable {
    /// The call fails; a state request leaves the device where it was, where it should have gone, or in ERROR.
    case fail(ErrorNumber, leaves: Leaves)
    /// The guest resets the device just before the call.
    case guestReset
    /// Somebody interrupts the session just before the call.
    case interrupt
  }

  package enum Leaves: String, CaseIterable, Codable, Sendable { case old, new, error }

  private let at: Int
  private let event: Event?
  private let count = Mutex(0)
  /// What the call was that went wrong; nil where the run had ended before.
  package let failed = Mutex<DeviceOperation?>(nil)
  package let interrupt = Mutex<(@Sendable () -> Void)?>(nil)

  package init(at: Int = .max, _ event: Event? = nil) {
    self.at = at
    self.event = event
  }

  /// Calls so far.
  package var calls: Int { count.withLock { $0 } }

  /// - Returns: what is to happen to this call.
  package func next(_ operation: DeviceOperation) -> Event? {
    let number = count.withLock { count in
      count += 1
      return count
    }
    guard number == at, let event else { return nil }
    failed.withLock { $0 = operation }
    if case .interrupt = event { interrupt.withLock { $0 }?() }
    return event
  }
}

/// A device made of memory, for the failures that no kernel can be made to show. Its sessions are real descriptors, so a
/// leak shows in /proc/self/fd.
package final class FakeDevice: MigratableDevice {
  package struct Contents {
    package var state = MigrationState.running
    package var image: [UInt8]
    package var session: FakeSession?
    package var resets = 0
  }

  package let name: DeviceName
  package let script: Script
  package let graph: StateGraph
  package let contents: Mutex<Contents>

  package init(_ name: String, features: MigrationFeatures, image: [UInt8], script: Script) {
    self.name = DeviceName(name) ?? .node(name)
    self.script = script
    graph = StateGraph(features: features)
    contents = Mutex(Contents(image: image))
  }

  package var state: MigrationState { contents.withLock { $0.state } }
  package var image: [UInt8] { contents.withLock { $0.image } }

  private func resetNow() {
    contents.withLock { contents in
      contents.session?.isOver.withLock { $0 = true }
      contents.session = nil
      contents.state = .running
      contents.resets += 1
    }
  }

  /// - Parameter target: of a state request.
  package func call(_ operation: DeviceOperation, target: MigrationState? = nil) throws(DeviceError) {
    switch script.next(operation) {
    case .fail(let number, let leaves):
      if let target { contents.withLock { $0.state = leaves == .old ? $0.state : leaves == .new ? target : .error } }
      throw DeviceError(operation, .errno(number))
    case .guestReset:
      // A guest that has been stopped resets nothing.
      if state == .preCopy || state == .preCopyP2P { resetNow() }
    case .interrupt, nil:
      break
    }
  }

  package func migrationFeatures() throws(DeviceError) -> MigrationFeatures { graph.features }

  package func migrationState() throws(DeviceError) -> MigrationState {
    try call(.readState)
    return state
  }

  package func setMigrationState(_ target: MigrationState) throws(DeviceError) -> (any MigrationData)? {
    try call(.setState(target), target: target)
    let from = state
    guard graph.allows(from: from, to: target) else { throw DeviceError(.setState(target), .errno(.invalidArgument)) }
    let opened: FakeSession? =
      graph.opensData(from: from, to: target) ? FakeSession(self, reads: target.isSaving) : nil
    let finished: [UInt8]? = contents.withLock { contents in
      contents.state = target
      if let opened { contents.session = opened }
      guard !target.hasDataDescriptor else { return nil }
      defer { contents.session = nil }
      return from == .resuming ? contents.session?.written : nil
    }
    if let finished { contents.withLock { $0.image = finished } }
    return opened
  }

  package func stopCopySize() throws(DeviceError) -> UInt64? {
    try call(.stopCopySize)
    return UInt64(image.count)
  }

  package func flush() throws(DeviceError) { try call(.flush) }

  package func reset() throws(DeviceError) {
    try call(.reset)
    resetNow()
    contents.withLock { $0.image = [] }
  }
}

/// A data session of a fake device: half of the image can be read before the stop.
package final class FakeSession: MigrationData {
  // The device keeps its session: a strong reference back would keep both.
  private unowned let device: FakeDevice
  private let file: Descriptor
  private let position = Mutex(0)
  package let isOver = Mutex(false)

  package init(_ device: FakeDevice, reads: Bool) {
    self.device = device
    guard let file = try? Descriptor.temporary() else { fatalError("no temporary file for a fake session") }
    if reads { try? file.writeAll(device.image.span, at: 0) }
    self.file = file
  }

  private func check(_ operation: DeviceOperation) throws(DeviceError) {
    try device.call(operation)
    if isOver.withLock({ $0 }) { throw DeviceError(operation, .errno(.noDevice)) }
  }

  private var limit: Int { device.state == .stopCopy ? .max : device.image.count / 2 }

  package func read(into buffer: inout MutableSpan<UInt8>) throws(DeviceError) -> DataRead {
    try check(.readData)
    let at = position.withLock { $0 }
    guard at < limit else { return .end }
    // Short reads, as drivers give them.
    var chunk = [UInt8](repeating: 0, count: min(1000, min(limit, Int.max) - at, buffer.count))
    var span = chunk.mutableSpan
    guard let count = try? file.read(into: &span, at: at), count > 0 else { return .end }
    for index in 0..<count { buffer[index] = chunk[index] }
    position.withLock { $0 += count }
    return .bytes(count)
  }

  package func write(_ bytes: Span<UInt8>) throws(DeviceError) {
    try check(.writeData)
    let at = position.withLock { $0 }
    guard (try? file.writeAll(bytes, at: at)) != nil else { throw DeviceError(.writeData, .errno(.inputOutput)) }
    position.withLock { $0 += bytes.count }
  }

  package func preCopyInfo() throws(DeviceError) -> PreCopyInfo {
    try check(.preCopyInfo)
    let left = max(0, limit - position.withLock { $0 })
    return PreCopyInfo(initialBytes: UInt64(left), dirtyBytes: 0)
  }

  /// All that was written.
  package var written: [UInt8] {
    let count = position.withLock { $0 }
    var bytes = [UInt8](repeating: 0, count: count)
    var span = bytes.mutableSpan
    _ = try? file.read(into: &span, at: 0)
    return bytes
  }
}
