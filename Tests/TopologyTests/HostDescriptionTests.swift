// SPDX-License-Identifier: Apache-2.0
import Testing
import TopologyFixtures

/// A typo in a description is an error that names the line, not a host that is a little different.
struct HostDescriptionTests {
  @Test(
    "mistakes are found where they are made",
    arguments: [
      ("iommu maybe", "line 1: \"maybe\" is none of off, on"),
      ("host 00:00", "line 1: a host bridge is \"host pciSSSS:BB\""),
      ("00:01.0 root-port", "line 1: 0000:00:01.0 comes before the first host bridge"),
      ("host pci0000:00\nhost pci0000:00", "line 2: pci0000:00 is there already"),
      ("host pci0000:00\n  00:01.0 rootport", "line 2: 0000:00:01.0 is of no kind that is known"),
      ("host pci0000:00\n  00:1.0 root-port", "line 2: \"00:1.0\" is no PCI address"),
      (
        "host pci0000:00\n   00:01.0 root-port",
        "line 2: 0000:00:01.0 is indented by 3 spaces, which is no level below the line above"
      ),
      (
        "host pci0000:00\n  00:01.0 root-port\n      01:00.0 endpoint",
        "line 3: 0000:01:00.0 is indented by 6 spaces, which is no level below the line above"
      ),
      ("host pci0000:00\n  00:01.0 downstream", "line 2: there is no downstream directly below a host bridge"),
      (
        "host pci0000:00\n  00:01.0 root-port\n    01:00.0 downstream",
        "line 3: there is no downstream directly below a root-port"
      ),
      (
        "host pci0000:00\n  00:01.0 root-port\n    00:02.0 endpoint",
        "line 3: 0000:00:02.0 has no bus below 0000:00:01.0's"
      ),
      ("host pci0000:00\n  0001:00:01.0 root-port", "line 2: 0001:00:01.0 is not of pci0000:00's segment"),
      ("host pci0000:00\n  00:01.0 integrated acs=rr,xx", "line 2: \"xx\" is none of cr, dt, ec, off, rr, sv, tb, uf"),
      (
        "host pci0000:00\n  00:01.0 integrated bars=6:1M",
        "line 2: \"6:1M\": a BAR is index:size, with an index of 0 to 5"
      ),
      (
        "host pci0000:00\n  00:01.0 integrated bars=0:3M",
        "line 2: \"0:3M\": a BAR's size is a power of two with K, M or G, then p or io"
      ),
      (
        "host pci0000:00\n  00:01.0 integrated vf-of=00:02.0",
        "line 2: 0000:00:01.0's physical function 0000:00:02.0 is not above, below the same port"
      ),
      ("host pci0000:00\n  00:01.0 integrated atss=on", "line 2: what is \"atss=on\"?"),
      ("host pci0000:00\n  00:01.0 integrated group=x", "line 2: \"x\" is no number"),
      ("rdma mlx5_0 at=00:02.0", "line 1: there is no 0000:00:02.0"),
    ])
  func mistakes(text: String, message: String) {
    #expect {
      try HostDescription(text)
    } throws: { error in
      "\(error)" == message
    }
  }
}
