// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@Suite("Device names")
struct DeviceNameTests {
  @Test("a PCI address may come in capitals and without its segment")
  func pci() {
    #expect(DeviceName("0000:17:00.2") == .pci("0000:17:00.2"))
    #expect(DeviceName("17:1F.7") == .pci("0000:17:1f.7"))
    #expect(DeviceName("10000:e1:00.0") == .pci("10000:e1:00.0"))
  }

  @Test("a mediated device has a UUID, and a node its path")
  func others() {
    let uuid = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"
    #expect(DeviceName(uuid.uppercased()) == .mediated(uuid))
    #expect(DeviceName("/dev/vfio/devices/vfio3") == .node("/dev/vfio/devices/vfio3"))
    #expect(DeviceName("/dev/vfio/devices/vfio3")?.description == "/dev/vfio/devices/vfio3")
  }

  @Test(
    "anything else is no name",
    arguments: [
      "", ":", "17", "17:00", "17:00.8", "17:20.0", "17:00.", "17:0.0", "1:00.0", "017:00.0", "0000:17:00.2 ",
      "000:17:00.2",
      "000000000:17:00.2", "0000:17:00.2.1", "0000:00:17:00.2", "0000:1g:00.0", "-1:00.0", "+7:00.0", "１7:00.0",
      "83b8f4f2-509f-382f-3c1e-e6bfe0fa100", "83b8f4f2-509f-382f-3c1e-e6bfe0fa10011",
      "83b8f4f2509f382f3c1ee6bfe0fa1001",
      "83b8f4f2-509f-382f-3c1e-e6bfe0fa100g", "83b8f4f2-509f-382f-3c1e", "dev/vfio/3", "/sys/bus/pci", "../etc/passwd",
      "/dev/../etc/passwd", "/dev/vfio\u{0}", "mlx5_0", "/dev/vfio/devices/vfio", "/dev/bogus/vfio0",
      "/dev/vfio/devices/vfio1x", "/dev/vfio/devices/vfio1234567890", "/dev/vfio/3",
    ])
  func malformed(text: String) {
    #expect(DeviceName(text) == nil)
  }
}
