// SPDX-License-Identifier: Apache-2.0
import Foundation
import LinuxIO
import Migration
import Testing

extension LabTests {
  /// What a helper can't find out of a device, because it reads files only, and is given by its VMM.
  @Suite(.serialized, .enabled(if: Lab.isHere))
  struct HandedTagTests {
    private static let types = "/sys/devices/virtual/mtty/mtty/mdev_supported_types"

    /// Two devices of one's own, and the files in which their tags are.
    private final class Pair {
      let source = "76666572-7279-4d54-8959-0000000000b1"
      let destination = "76666572-7279-4d54-8959-0000000000b2"
      private let folder: URL

      init() throws {
        folder = try Lab.temporaryFolder()
        for uuid in [source, destination] { try Pair.write(uuid, to: "\(types)/mtty-2/create") }
      }

      deinit {
        for uuid in [source, destination] { try? Pair.write("1", to: "/sys/bus/mdev/devices/\(uuid)/remove") }
        try? FileManager.default.removeItem(at: folder)
      }

      private static func write(_ text: String, to path: String) throws {
        let file = try Descriptor.open(path, O_WRONLY)
        _ = try file.write(Array(text.utf8).span)
      }

      /// The options of one side: what `vfio-ferry tag` prints of its device, with fields that an mtty device does not have.
      func tag(_ uuid: String, _ fields: [(TagField, String)]) throws -> [String] {
        let printed = try Lab.ferry(["tag", uuid])
        var tag = try CompatibilityTag(decoding: Array(printed.out.utf8))
        #expect(tag[.mediatedType] == "mtty-2")
        for (field, value) in fields { tag[field] = value }
        let path = folder.appendingPathComponent(uuid).path
        try tag.text.write(toFile: path, atomically: false, encoding: .utf8)
        return ["--tag", path]
      }

      /// Moves the device, each VMM with its options.
      func move(_ here: [String], _ there: [String]) throws -> (source: ExampleVMM, destination: ExampleVMM) {
        let common = ["--peer", "/run/handed-tag-peer", "--helper", Lab.ferryProgram.path, "--memory", "0"]
        let to = try ExampleVMM(["destination", destination, "--expect-mark"] + there + common)
        let from = try ExampleVMM(["source", source, "--mark"] + here + common)
        return (from, to)
      }
    }

    @Test("a device moves with a tag that its VMM has handed over, and what is let pass and should be known is told")
    func moved() throws {
      let pair = try Pair()
      let mac = (TagField.mac, "02:00:00:00:00:01")
      let vmms = try pair.move(
        pair.tag(pair.source, [mac, (.trust, "on")]), pair.tag(pair.destination, [mac, (.trust, "off")]))
      #expect(try vmms.source.end() == 0, "\(vmms.source.text)")
      #expect(try vmms.destination.end() == 0, "\(vmms.destination.text)")
      let told = vmms.destination.lines.filter { $0.contains("tag of device 1: ") }
      #expect(told.count == 1, "\(told)")
      #expect(told.first?.contains("trust is different: on on the source, off on the destination") == true)
      #expect(vmms.destination.text.contains("device 1 has its mark"))
    }

    @Test("another MAC address on the destination is refused before its device is touched, and the guest runs on")
    func otherAddress() throws {
      let pair = try Pair()
      try DeviceHolder.mark(pair.destination, [0x61])
      let vmms = try pair.move(
        pair.tag(pair.source, [(.mac, "02:00:00:00:00:01")]), pair.tag(pair.destination, [(.mac, "02:00:00:00:00:02")]))
      #expect(try vmms.source.end() == 3, "\(vmms.source.text)")
      #expect(try vmms.destination.end() == 1, "\(vmms.destination.text)")
      #expect(
        vmms.destination.text.contains(
          "mac is different: 02:00:00:00:00:01 on the source, 02:00:00:00:00:02 on the destination"),
        "\(vmms.destination.text)")
      #expect(!vmms.destination.text.contains("device 1: running to"), "\(vmms.destination.text)")
      #expect(vmms.source.text.contains("device 1: running to pre-copy"), "\(vmms.source.text)")
      for uuid in [pair.source, pair.destination] { #expect(try Lab.debugState(uuid) == "RUNNING") }
      #expect(try DeviceHolder.marks(pair.destination).first == 0x61)
    }

    @Test("a tag of a device that this is not is refused at once, with the name of the field, whatever else is in it")
    func otherDevice() throws {
      let pair = try Pair()
      let vmms = try pair.move(
        pair.tag(pair.source, [(.mediatedType, "mtty-1"), (.mac, "02:00:00:00:00:01")]),
        pair.tag(pair.destination, [(.mac, "02:00:00:00:00:01")]))
      #expect(try vmms.source.end() == 3, "\(vmms.source.text)")
      #expect(try vmms.destination.end() == 1, "\(vmms.destination.text)")
      #expect(vmms.source.text.contains("DEVICE_TAG: code 9 "), "\(vmms.source.text)")
      #expect(vmms.source.text.contains("it says mdev_type mtty-1, and here that is mtty-2"), "\(vmms.source.text)")
      #expect(!(vmms.source.text + vmms.destination.text).contains("device 1: running to"))
      #expect(try Lab.debugState(pair.source) == "RUNNING")
    }
  }
}
