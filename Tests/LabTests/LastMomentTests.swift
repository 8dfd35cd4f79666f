// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing
import VFIO

extension LabTests {
  /// What changes in the moment of the stop: it must be in the image, or a digest would agree with what nobody has.
  @Suite(.serialized, .enabled(if: Lab.synthetic))
  struct LastMomentTests {
    /// Reads until there is no more for now.
    private func drain(_ data: any MigrationData, into image: inout [UInt8]) throws {
      var chunk = [UInt8](repeating: 0, count: 1 << 20)
      while true {
        var span = chunk.mutableSpan
        guard case .bytes(let count) = try data.read(into: &span) else { return }
        image += chunk[..<count]
      }
    }

    @Test("what a device rewrites while it goes from pre-copy to stop-copy is in its image, every time")
    func lastRewriting() throws {
      let settings: KeyValuePairs = ["state_bytes": "2M", "state_rate": "1000000"]
      let source = try Synthetic("last", settings)
      defer { source.remove() }
      let target = try Synthetic("last", settings)
      defer { target.remove() }
      let (saving, loading) = (try source.open(), try target.open())
      for round in 1...40 {
        try saving.reset()
        try loading.reset()
        // Long enough for the device to be in the middle of something when the arc ends, now here, now there.
        try source.set("arc_time", "pre-copy-p2p:stop-copy \(1000 + round * 137)")
        var image: [UInt8] = []
        let saved = try #require(try saving.setMigrationState(.preCopy))
        try drain(saved, into: &image)
        try source.set("activity", "state")
        try Lab.wait(until: "the device rewrites its state") { try source.referee["state_position"] > 0 }
        #expect(try saving.setMigrationState(.stopCopy) == nil)
        try drain(saved, into: &image)
        let position = try source.referee["state_position"]
        #expect(position > 0)

        try #require(try loading.setMigrationState(.resuming)).write(image.span)
        #expect(try loading.setMigrationState(.stop) == nil)
        #expect(try target.digest == source.digest, "round \(round)")
        #expect(try target.referee["state_position"] == position, "round \(round)")
      }
      #expect(try target.referee["loads_verified"] == 40)
    }
  }
}
