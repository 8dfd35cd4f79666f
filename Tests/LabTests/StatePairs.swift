// SPDX-License-Identifier: Apache-2.0
import LinuxIO
import Migration
import Testing
import VFIO

/// Asks a real device for every state from every state, and holds the kernel's answers against ``StateGraph``.
struct StatePairs {
  /// The name of its folder in sysfs and debugfs.
  let kernelName: String
  let device: KernelDevice
  let graph: StateGraph
  /// The device as its referee knows it, where it has one. That is also what it takes to bring it into ERROR.
  let synthetic: Synthetic?
  /// The data session that belongs to the state.
  var data: (any MigrationData)?

  init(_ device: KernelDevice, kernelName: String, synthetic: Synthetic? = nil) throws {
    self.kernelName = kernelName
    self.device = device
    self.synthetic = synthetic
    // mtty keeps its state when it is closed; one that was left in RESUMING would crash the kernel.
    try device.reset()
    graph = StateGraph(features: try device.migrationFeatures())
  }

  init(mtty name: String) throws { try self.init(try Lab.open(name), kernelName: name) }

  init(_ synthetic: Synthetic) throws {
    try self.init(try synthetic.open(), kernelName: synthetic.name, synthetic: synthetic)
  }

  /// The states that it can be brought into.
  var starts: [MigrationState] { graph.states.filter { $0 != .error || synthetic != nil } }

  mutating func go(to state: MigrationState) throws {
    if state == .error { return try fail() }
    for next in try #require(graph.path(from: .running, to: state)) {
      if let opened = try device.setMigrationState(next) { data = opened }
    }
  }

  /// Into ERROR, by an arc that is made to fail.
  private func fail() throws {
    let next = try #require(graph.path(from: .running, to: .stop)?.first)
    try #require(synthetic).set("arc_fail", "running:\(next) 1 5 error")
    #expect(throws: DeviceError(.setState(next), .errno(.inputOutput))) { try device.setMigrationState(next) }
  }

  /// A whole image of the device as it is.
  mutating func image() throws -> [UInt8] {
    try go(to: .stopCopy)
    let image = try Self.drained(try #require(data))
    try reset()
    return image
  }

  /// Everything that a data session gives now.
  static func drained(_ data: any MigrationData) throws -> [UInt8] {
    var image: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      var span = chunk.mutableSpan
      guard case .bytes(let count) = try data.read(into: &span) else { return image }
      image += chunk[..<count]
    }
  }

  mutating func reset() throws {
    data = nil
    try device.reset()
  }

  private var reported: MigrationState? {
    get throws { MigrationState(name: try Lab.debugState(kernelName)) }
  }

  /// - Parameter image: what is written into a device that starts in RESUMING; empty for nothing.
  mutating func check(from start: MigrationState, to target: MigrationState, image: [UInt8]) throws {
    try go(to: start)
    #expect(try reported == start)
    if start == .resuming, !image.isEmpty { try #require(data).write(image.span) }
    try synthetic?.resetReferee()
    let path = graph.path(from: start, to: target)
    // A driver that was given no image may refuse to leave RESUMING, as mtty and a careful synthetic device do; that
    // is its own rule.
    let isIncomplete = start == .resuming && target != .resuming && image.isEmpty
    var failure: DeviceError?
    var opened = false
    do {
      let session = try device.setMigrationState(target)
      opened = session != nil
      data = session ?? data
    } catch {
      failure = error
    }
    #expect(
      (failure == nil) == (path != nil && !isIncomplete), "\(start) to \(target): \(String(describing: failure))")
    if let failure { #expect(failure.errno == .invalidArgument, "\(start) to \(target)") }
    if failure == nil { #expect(opened == graph.opensData(from: start, to: target), "\(start) to \(target)") }
    let state = try #require(try reported)
    let predicted = failure == nil ? target : start
    #expect(state == predicted, "\(start) to \(target) left \(state)")
    if failure != nil { #expect(graph.possibleStates(afterFailed: start, to: target).contains(state)) }
    #expect(try device.migrationState() == state)
    if let referee = try synthetic?.referee {
      #expect(referee["arcs_refused"] == (path == nil ? 1 : 0), "\(start) to \(target)")
      if failure == nil { #expect(referee["arcs"] == path?.count, "\(start) to \(target)") }
    }
    try reset()
    #expect(try reported == .running)
  }
}
