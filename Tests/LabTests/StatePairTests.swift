// SPDX-License-Identifier: Apache-2.0
import LinuxIO
import Migration
import Testing
import VFIO

extension LabTests {
  /// The graph against the kernel's own driver: every ordered pair of states, asked of a real mtty device.
  @Suite(.serialized, .enabled(if: Lab.isHere))
  struct StatePairTests {
    private static let starts = MigrationState.allCases.filter { $0 != .error }

    @Test("the kernel accepts exactly what the graph allows, from and to every state", arguments: starts)
    func pairs(start: MigrationState) throws {
      var image: [UInt8] = []
      if start == .resuming {
        var source = try StatePairs(mtty: Lab.mtty[1])
        image = try source.image()
      }
      var pairs = try StatePairs(mtty: Lab.mtty[0])
      for target in MigrationState.allCases { try pairs.check(from: start, to: target, image: image) }
    }

    @Test("without an image a device stays in RESUMING, whatever it is asked for")
    func resumingWithoutImage() throws {
      var pairs = try StatePairs(mtty: Lab.mtty[0])
      for target in MigrationState.allCases { try pairs.check(from: .resuming, to: target, image: []) }
    }

    @Test("a reset ends the data session: ENODEV from then on, and the device runs")
    func resetEndsSession() throws {
      var subject = try StatePairs(mtty: Lab.mtty[0])
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
      var subject = try StatePairs(mtty: Lab.mtty[0])
      try subject.go(to: .preCopy)
      let data = try #require(subject.data)
      #expect(try data.preCopyInfo().initialBytes == 24)
      #expect(try StatePairs.drained(data).count == 24)
      #expect(try data.preCopyInfo().remainingBytes == 0)
      #expect(try subject.device.setMigrationState(.stopCopy) == nil)
      #expect(try StatePairs.drained(data).count == 72)
      #expect(throws: DeviceError(.preCopyInfo, .errno(.invalidArgument))) { try data.preCopyInfo() }
      try subject.device.reset()
    }
  }
}

extension LabTests {
  /// The same of synthetic devices, which can be of any make: every combination of flags, behind either kind of IOMMU.
  @Suite(.serialized, .enabled(if: Lab.synthetic))
  struct SyntheticStatePairTests {
    @Test(
      "a synthetic device accepts exactly what the graph allows, from ERROR nothing, and the referee counts refusals",
      arguments: MigrationFeatures.definedCombinations, Synthetic.IOMMU.allCases)
    func pairs(features: MigrationFeatures, iommu: Synthetic.IOMMU) throws {
      let synthetic = try Synthetic(
        "pairs",
        [
          "migration": features.names.joined(separator: " "), "iommu": iommu.rawValue, "state_bytes": "8K",
        ])
      defer { synthetic.remove() }
      var pairs = try StatePairs(synthetic)
      #expect(pairs.graph.features == features)
      let image = try pairs.image()
      for start in pairs.starts {
        for target in MigrationState.allCases { try pairs.check(from: start, to: target, image: image) }
      }
      for target in MigrationState.allCases { try pairs.check(from: .resuming, to: target, image: []) }
    }

    @Test("a device whose migration is none can't be asked for anything", arguments: Synthetic.IOMMU.allCases)
    func notMigratable(iommu: Synthetic.IOMMU) throws {
      let synthetic = try Synthetic("still", ["migration": "none", "iommu": iommu.rawValue])
      defer { synthetic.remove() }
      let device = try synthetic.open()
      #expect(throws: DeviceError(.readFeatures, .errno(.notTypewriter))) { try device.migrationFeatures() }
      #expect(throws: DeviceError(.readState, .errno(.notTypewriter))) { try device.migrationState() }
      #expect(throws: DeviceError(.setState(.stop), .errno(.notTypewriter))) { try device.setMigrationState(.stop) }
      try device.reset()
    }
  }
}
