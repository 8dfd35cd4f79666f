// SPDX-License-Identifier: Apache-2.0
import Glibc
import LinuxIO
import Testing

@testable import Topology
@testable import vfio_ferry

struct MonitorLineTests {
  private func sighting(_ properties: [String: String]) throws -> DeviceSighting {
    try #require(
      DeviceSighting(
        UdevDevice(
          path: "/sys/devices/pci0000:00/0000:3b:00.2/vfio-dev/vfio1", subsystem: "vfio-dev", properties: properties),
        isPhysical: false))
  }

  private var known: [String: String] {
    [
      "DEVNAME": "/dev/vfio/devices/vfio1", "VFIO_FERRY_DEVICE": "0000:3b:00.2", "VFIO_FERRY_DRIVER": "mlx5_vfio_pci",
      "VFIO_FERRY_STATES": "stop running", "VFIO_FERRY_DIRTY": "device", "VFIO_FERRY_TAG": "0123456789abcdef",
    ]
  }

  @Test("an event is a line with what is known of the device")
  func text() throws {
    let change = DeviceWatch.Change(action: "add", sighting: try sighting(known), sequence: 7)
    #expect(
      MonitorLine.change(change).text
        == "add    device 0000:3b:00.2 driver mlx5_vfio_pci node /dev/vfio/devices/vfio1 states stop,running dirty device tag 0123456789abcdef"
    )
    #expect(MonitorLine.existing(try sighting([:])).text == "exists device 0000:3b:00.2")
    let found = DeviceWatch.Change(action: "remove", sighting: try sighting([:]), sequence: nil)
    #expect(MonitorLine.change(found).text == "remove device 0000:3b:00.2 (found by looking again)")
    let overrun = MonitorLine.overrun(SystemError("hearing", "udevd", errno: ENOBUFS))
    #expect(overrun.text.hasPrefix("overrun: events are lost (hearing udevd: "))
    #expect(overrun.json.text(pretty: false) == #"{"action":"overrun","error":"ENOBUFS"}"#)
  }

  @Test("for a script it is an object, in which what is not known is null, and no states is an empty list")
  func json() throws {
    let change = DeviceWatch.Change(action: "add", sighting: try sighting(known), sequence: 7)
    #expect(
      MonitorLine.change(change).json.text(pretty: false)
        == #"{"action":"add","kind":"device","name":"0000:3b:00.2","driver":"mlx5_vfio_pci","node":"/dev/vfio/devices/vfio1","#
        + #""states":["stop","running"],"dirty":"device","tag":"0123456789abcdef","#
        + #""sysfs":"/sys/devices/pci0000:00/0000:3b:00.2/vfio-dev/vfio1","sequence":7,"found_by_looking":false}"#)
    let bare = MonitorLine.existing(try sighting(["VFIO_FERRY_STATES": "none"])).json.text(pretty: false)
    #expect(bare.contains(#""action":"exists""#) && bare.contains(#""states":[],"dirty":null"#))
    #expect(bare.contains(#""sequence":null"#))
  }

  @Test("a text has a digest of sixteen digits")
  func digest() {
    #expect(UdevCommand.digest("").count == 16)
    #expect(UdevCommand.digest("vendor 15b3\n") != UdevCommand.digest("vendor 15b4\n"))
  }
}
