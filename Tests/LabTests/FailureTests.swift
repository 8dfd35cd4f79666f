// SPDX-License-Identifier: Apache-2.0
import LinuxIO
import Migration
import Testing
import VFIO

extension LabTests {
  /// Failures that a synthetic device is told to have: each yields the state and the errno that it promises.
  @Suite(.serialized, .enabled(if: Lab.synthetic))
  struct FailureTests {
    /// Where a failed arc leaves the device, in the words of `arc_fail`.
    enum Leaves: String, CaseIterable {
      case start, here, there, error

      func state(start: MigrationState, arc: (from: MigrationState, to: MigrationState)) -> MigrationState {
        switch self {
        // What has a data descriptor can't be returned to once the way led out of it: the descriptor was ended there.
        case .start: start.hasDataDescriptor && arc.from != start && !arc.from.isSaving ? arc.from : start
        case .here: arc.from
        case .there: arc.to
        case .error: .error
        }
      }
    }

    @Test(
      "each arc of each request fails with the errno that was set and leaves the device where it was set to",
      arguments: Leaves.allCases)
    func everyArc(leaves: Leaves) throws {
      let synthetic = try Synthetic("fails", ["state_bytes": "8K"])
      defer { synthetic.remove() }
      var pairs = try StatePairs(synthetic)
      let image = try pairs.image()
      // Any number must come through, not only those that drivers use.
      let errno = ErrorNumber(rawValue: 117)
      for start in pairs.starts where start != .error {
        for target in pairs.graph.states {
          guard let path = pairs.graph.path(from: start, to: target) else { continue }
          var from = start
          for to in path {
            try pairs.go(to: start)
            if start == .resuming { try #require(pairs.data).write(image.span) }
            try synthetic.resetReferee()
            try synthetic.set("arc_fail", "\(from):\(to) 1 \(errno.rawValue) \(leaves)")
            let place: Comment = "\(start) to \(target), failing at \(from) to \(to)"
            #expect(throws: DeviceError(.setState(target), .errno(errno)), place) {
              try pairs.device.setMigrationState(target)
            }
            let promised = leaves.state(start: start, arc: (from, to))
            #expect(try pairs.device.migrationState() == promised, place)
            #expect(try synthetic.state == promised, place)
            #expect(try synthetic.referee["arcs_failed"] == 1, place)
            try pairs.reset()
            from = to
          }
        }
      }
    }

    @Test("the N-th use fails and no other")
    func nthUse() throws {
      let synthetic = try Synthetic("fails", ["arc_fail": "running:running-p2p 3 16 here"])
      defer { synthetic.remove() }
      let device = try synthetic.open()
      for use in 1...5 {
        if use == 3 {
          #expect(throws: DeviceError(.setState(.stop), .errno(.busy))) { try device.setMigrationState(.stop) }
          #expect(try device.migrationState() == .running)
        } else {
          #expect(try device.setMigrationState(.stop) == nil)
          #expect(try device.setMigrationState(.running) == nil)
        }
      }
      #expect(try synthetic.referee["arcs_failed"] == 1)
    }

    @Test("what was loaded is still there after the arc out of RESUMING failed, and the next try takes it")
    func secondTry() throws {
      let synthetic = try Synthetic("fails", ["state_bytes": "64K"])
      defer { synthetic.remove() }
      var pairs = try StatePairs(synthetic)
      let image = try pairs.image()
      let digest = try synthetic.digest
      try pairs.go(to: .resuming)
      try #require(pairs.data).write(image.span)
      try synthetic.set("arc_fail", "resuming:stop 1 5 here")
      #expect(throws: DeviceError.self) { try pairs.device.setMigrationState(.stop) }
      #expect(try pairs.device.setMigrationState(.stop) == nil)
      #expect(try synthetic.digest == digest)
      #expect(try synthetic.referee["loads_verified"] == 1)
    }

    @Test("reading fails after as many bytes as were set, and the next data descriptor is a good one")
    func readFails() throws {
      let synthetic = try Synthetic("fails", ["state_bytes": "64K"])
      defer { synthetic.remove() }
      var pairs = try StatePairs(synthetic)
      let whole = try pairs.image()
      for limit in [0, 1, 10_000, whole.count - 1] {
        try synthetic.set("data_fail", "read \(limit) 5")
        try pairs.go(to: .stopCopy)
        var read: [UInt8] = []
        var failure: DeviceError?
        var chunk = [UInt8](repeating: 0, count: 4096)
        let data = try #require(pairs.data)
        while failure == nil {
          do {
            var span = chunk.mutableSpan
            guard case .bytes(let count) = try data.read(into: &span) else { break }
            read += chunk[..<count]
          } catch {
            failure = error
          }
        }
        #expect(failure == DeviceError(.readData, .errno(.inputOutput)), "after \(limit) bytes")
        // A reset changes the image a little, by the incarnation: its length tells.
        #expect(read.count == limit, "after \(limit) bytes")
        try pairs.reset()
      }
      #expect(try pairs.image().count == whole.count)
    }

    @Test("writing fails after as many bytes as were set, and the next data descriptor is a good one")
    func writeFails() throws {
      let synthetic = try Synthetic("fails", ["state_bytes": "64K"])
      defer { synthetic.remove() }
      var pairs = try StatePairs(synthetic)
      let image = try pairs.image()
      for limit in [0, 1, 10_000] {
        try synthetic.set("data_fail", "write \(limit) 28")
        try pairs.go(to: .resuming)
        let data = try #require(pairs.data)
        if limit > 0 { try data.write(image.span.extracting(0..<limit)) }
        #expect(throws: DeviceError(.writeData, .errno(ErrorNumber(rawValue: 28))), "after \(limit) bytes") {
          try data.write(image.span.extracting(limit..<limit + 1))
        }
        try pairs.reset()
      }
      try pairs.go(to: .resuming)
      try #require(pairs.data).write(image.span)
      #expect(try pairs.device.setMigrationState(.stop) == nil)
    }

    @Test("a setting that can't be is refused, and what is fixed while the device is live stays")
    func settings() throws {
      let synthetic = try Synthetic("settings")
      defer { synthetic.remove() }
      for (setting, value) in [
        ("arc_fail", "running:stopped 1 5 here"), ("arc_fail", "running:stop 0 5 here"), ("arc_fail", "running:stop 1"),
        ("arc_fail", "running:stop 1 5 nowhere"), ("arc_hang", "running:stop"), ("arc_time", "all"),
        ("pre_copy_end", "maybe"), ("dma_ranges", "0x1000"), ("dma_ranges", "0x1001+4096"), ("dma_pattern", "zigzag"),
        ("activity", "sleep"), ("misbehave", "politely"), ("data_fail", "seek 1 5"), ("state_rate", "-1"),
      ] {
        #expect(throws: SystemError.self, "\(setting) \(value)") { try synthetic.set(setting, value) }
      }
      for (setting, value) in [
        ("iommu", "own"), ("id", "5"), ("migration", "stop-copy"), ("state_bytes", "4K"), ("log", "0"),
      ] {
        let before = try synthetic.get(setting)
        #expect(throws: SystemError("writing", "\(Synthetic.configuration)/\(synthetic.name)/\(setting)", errno: 16)) {
          try synthetic.set(setting, value)
        }
        #expect(try synthetic.get(setting) == before)
      }
      // A list: one entry a line, replaced as a whole, cleared by an empty line.
      try synthetic.set("arc_time", "running:running-p2p 10\nstop:stop-copy 20")
      #expect(try synthetic.get("arc_time").split(separator: "\n").count == 2)
      try synthetic.set("arc_time", "")
      #expect(try synthetic.get("arc_time").isEmpty)
      #expect(throws: SystemError("writing", "\(Synthetic.configuration)/\(synthetic.name)/activity", errno: 19)) {
        try synthetic.set("activity", "dma")
      }
    }
  }
}
