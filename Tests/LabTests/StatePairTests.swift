// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing
import VFIO

extension LabTests {
  /// The graph against the kernel's own driver: every ordered pair of states, asked of a real mtty device.
  @Suite(.serialized, .enabled(if: Lab.isHere))
  struct StatePairTests {
    /// A device on its way into a state, with the data session that belongs to the state.
    private struct Subject {
      let device: KernelDevice
      let graph: StateGraph
      var data: (any MigrationData)?

      init(_ name: String) throws {
        device = try Lab.open(name)
        // mtty keeps its state when it is closed; one that was left in RESUMING would crash the kernel.
        try device.reset()
        graph = StateGraph(features: try device.migrationFeatures())
      }

      mutating func go(to state: MigrationState) throws {
        for next in try #require(graph.path(from: .running, to: state)) {
          if let opened = try device.setMigrationState(next) { data = opened }
        }
      }
    }

    /// A whole image of the device as it is.
    private static func image(of name: String) throws -> [UInt8] {
      var subject = try Subject(name)
      try subject.go(to: .stopCopy)
      var image: [UInt8] = []
      var chunk = [UInt8](repeating: 0, count: 4096)
      while true {
        var span = chunk.mutableSpan
        guard case .bytes(let count) = try #require(subject.data).read(into: &span) else { break }
        image += chunk[..<count]
      }
      try subject.device.reset()
      return image
    }

    private static let starts = MigrationState.allCases.filter { $0 != .error }

    private func check(from start: MigrationState, to target: MigrationState, image: [UInt8]) throws {
      let name = Lab.mtty[0]
      var subject = try Subject(name)
      try subject.go(to: start)
      #expect(MigrationState(name: try Lab.debugState(name)) == start)
      if !image.isEmpty { try #require(subject.data).write(image.span) }
      let allowed = subject.graph.allows(from: start, to: target)
      // A driver that was given no image may refuse to leave RESUMING, and mtty does; that is its own rule.
      let isIncomplete = start == .resuming && target != .resuming && image.isEmpty
      var failure: DeviceError?
      var opened = false
      do {
        let data = try subject.device.setMigrationState(target)
        opened = data != nil
        subject.data = data ?? subject.data
      } catch {
        failure = error
      }
      #expect((failure == nil) == (allowed && !isIncomplete), "\(start) to \(target): \(String(describing: failure))")
      if let failure { #expect(failure.errno == .invalidArgument) }
      if failure == nil { #expect(opened == subject.graph.opensData(from: start, to: target)) }
      let predicted = failure == nil ? [target] : isIncomplete ? [.resuming] : [start]
      let reported = MigrationState(name: try Lab.debugState(name))
      #expect(predicted.contains(try #require(reported)), "\(start) to \(target) left \(String(describing: reported))")
      if failure != nil {
        #expect(subject.graph.possibleStates(afterFailed: start, to: target).contains(try #require(reported)))
      }
      #expect(try subject.device.migrationState() == reported)
      try subject.device.reset()
    }

    @Test("the kernel accepts exactly what the graph allows, from and to every state", arguments: starts)
    func pairs(start: MigrationState) throws {
      let image = start == .resuming ? try Self.image(of: Lab.mtty[1]) : []
      for target in MigrationState.allCases { try check(from: start, to: target, image: image) }
    }

    @Test("without an image a device stays in RESUMING, whatever it is asked for")
    func resumingWithoutImage() throws {
      for target in MigrationState.allCases { try check(from: .resuming, to: target, image: []) }
    }

    @Test("a reset ends the data session: ENODEV from then on, and the device runs")
    func resetEndsSession() throws {
      var subject = try Subject(Lab.mtty[0])
      try subject.go(to: .preCopy)
      try subject.device.reset()
      #expect(try subject.device.migrationState() == .running)
      let data = try #require(subject.data)
      // mtty looks at the device's state before it looks whether the session is over; others say ENODEV here.
      #expect(throws: DeviceError(.preCopyInfo, .errno(.invalidArgument))) { try data.preCopyInfo() }
      #expect(throws: DeviceError(.readData, .errno(.noDevice))) {
        var chunk = [UInt8](repeating: 0, count: 64)
        var span = chunk.mutableSpan
        _ = try data.read(into: &span)
      }
    }

    @Test("the temporary end of pre-copy and the end of stop-copy are both an end")
    func ends() throws {
      var subject = try Subject(Lab.mtty[0])
      try subject.go(to: .preCopy)
      let data = try #require(subject.data)
      #expect(try data.preCopyInfo().initialBytes == 24)
      #expect(try drain(data) == 24)
      #expect(try data.preCopyInfo().remainingBytes == 0)
      #expect(try subject.device.setMigrationState(.stopCopy) == nil)
      #expect(try drain(data) == 72)
      #expect(throws: DeviceError(.preCopyInfo, .errno(.invalidArgument))) { try data.preCopyInfo() }
      try subject.device.reset()
    }

    private func drain(_ data: any MigrationData) throws -> Int {
      var total = 0
      var chunk = [UInt8](repeating: 0, count: 4096)
      while true {
        var span = chunk.mutableSpan
        guard case .bytes(let count) = try data.read(into: &span) else { return total }
        total += count
      }
    }
  }
}
