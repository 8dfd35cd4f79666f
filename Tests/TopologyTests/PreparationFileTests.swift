// SPDX-License-Identifier: Apache-2.0
import Testing
import TopologyFixtures

@testable import Topology

@Suite("Files of /etc/vfio-ferry/prepare.d")
struct PreparationFileTests {
  private func problem(_ text: String) -> String {
    do throws(PreparationFile.Problem) {
      _ = try PreparationFile(path: "f.toml", Array(text.utf8))
      return ""
    } catch {
      return "\(error)"
    }
  }

  @Test("a file with every key is what it says, whatever it looks like")
  func whole() throws {
    let text = """
      # Left port.
      pf = "0000:3b:00.0"  # by address
      vfs=\t1_0
      eswitch = 'switchdev'
      macs = [ "02:00:5e:00:00:01", # of VF 0
        "02:00:5E:00:00:02",
      ]

      driver = "mlx5_vfio_pci"\r
      migratable = true
      """
    let file = try PreparationFile(path: "f.toml", Array(text.utf8))
    #expect(file.device == "0000:3b:00.0")
    let addresses = ["02:00:5e:00:00:01", "02:00:5e:00:00:02"].compactMap { MACAddress($0) }
    #expect(
      file.wish
        == PreparationWish(
          functions: 10, switchMode: .switchdev, addresses: addresses, driver: "mlx5_vfio_pci", isMigratable: true))
    let least = try PreparationFile(path: "f.toml", Array("pf = \"ens1f0np0\"\nvfs = 1".utf8))
    #expect(least.wish == PreparationWish(functions: 1))
  }

  @Test(
    "what is wrong is told with its line",
    arguments: [
      ("vfs = 2", "f.toml: it names no pf"), ("pf = \"a\"", "f.toml: it does not say how many vfs"),
      ("pf = \"a\"\nvsf = 2", "f.toml:2: vsf is unknown: there are pf, vfs, eswitch, macs, driver, migratable"),
      ("pf = 3", "f.toml:1: pf is a number, and has to be a string"),
      ("pf = \"\"", "f.toml:1: pf is empty"),
      ("\n\nvfs = \"2\"", "f.toml:3: vfs is a string, and has to be a number"),
      ("vfs = 0", "f.toml:1: vfs has to be 1 or more, and 65535 at most"),
      ("vfs = -1", "f.toml:1: vfs has to be 1 or more, and 65535 at most"),
      ("eswitch = \"on\"", "f.toml:1: eswitch has to be \"legacy\" or \"switchdev\""),
      ("migratable = \"yes\"", "f.toml:1: migratable is a string, and has to be true or false"),
      ("macs = \"02:00:5e:00:00:01\"", "f.toml:1: macs is a string, and has to be an array of strings"),
      ("macs = [\n1]", "f.toml:2: macs has a number in it, and has to have strings"),
      ("macs = [\n\"01:00:5e:00:00:01\"]", "f.toml:2: \"01:00:5e:00:00:01\" is no MAC address of one function"),
      ("macs = [\n\"00:00:00:00:00:00\"]", "f.toml:2: \"00:00:00:00:00:00\" is no MAC address of one function"),
      ("macs = [\"02:00:5e:00:00:01\",\n\"02:00:5e:00:00:01\"]", "f.toml:2: 02:00:5e:00:00:01 is there twice"),
      (
        "pf = \"a\"\nmacs = [\"02:00:5e:00:00:01\", \"02:00:5e:00:00:02\"]\nvfs = 1",
        "f.toml:2: there are more macs than vfs"
      ),
      ("driver = \"../x\"", "f.toml:1: \"../x\" is no driver's name"),
      ("vfs = 2\nvfs = 2", "f.toml:2: vfs is there twice"),
      ("[pf]", "f.toml:1: tables have no meaning here"),
      ("\"pf\" = 1", "f.toml:1: a setting begins with its name, which has no quotes"),
      ("a.b = 1", "f.toml:1: names with dots have no meaning here"),
      ("vfs 2", "f.toml:1: after vfs there has to be ="),
      ("vfs =\n2", "f.toml:1: a value is a string in quotes, a whole number, true, false, or an array of these"),
      ("vfs = 2 3", "f.toml:1: something follows the value on its line"),
      ("vfs = 2.5", "f.toml:1: a value is a string in quotes, a whole number, true, false, or an array of these"),
      ("vfs = 02", "f.toml:1: a value is a string in quotes, a whole number, true, false, or an array of these"),
      ("vfs = 2__0", "f.toml:1: a value is a string in quotes, a whole number, true, false, or an array of these"),
      (
        "vfs = 99999999999999999999",
        "f.toml:1: a value is a string in quotes, a whole number, true, false, or an array of these"
      ),
      ("vfs = 0x2", "f.toml:1: a value is a string in quotes, a whole number, true, false, or an array of these"),
      ("pf = \"a", "f.toml:1: a string is not closed on its line"),
      ("pf = \"a\n\"", "f.toml:1: a string is not closed on its line"),
      ("pf = \"\"\"a\"\"\"", "f.toml:1: a string of several lines has no meaning here"),
      ("pf = \"\\q\"", "f.toml:1: after a backslash in a string there may be \" \\ n or t"),
      ("macs = [[\"a\"]]", "f.toml:1: an array in an array has no meaning here"),
      ("macs = [\"a\"", "f.toml:1: an array is not closed with ]"),
      ("macs = [\"a\" \"b\"]", "f.toml:1: items of an array have commas between them"),
    ])
  func wrong(_ line: (text: String, said: String)) { #expect(problem(line.text) == line.said) }

  @Test("no bytes whatever end it otherwise than by an answer")
  func anything() {
    var state: UInt64 = 11
    let alphabet = Array("pfvsmac =\"'\\[],#\n\r\t10_.+-tru\u{0}\u{7f}".utf8) + [0xff, 0xc3]
    for _ in 0..<5000 {
      let bytes = (0..<24).map { _ -> UInt8 in
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return alphabet[Int(state >> 33) % alphabet.count]
      }
      _ = try? PreparationFile(path: "f.toml", bytes)
    }
  }

  @Test(
    "a function finds its file by address or interface; two files for one, and a damaged one in place of none, are errors"
  )
  func found() throws {
    let nic = try DescribedConnectX()
    let root = nic.host.root
    let folder = PreparationFile.folder(root: root)
    func find() throws -> String? { try PreparationFile.find(nic.device, in: folder, root: root)?.device }
    #expect(try find() == nil)
    try nic.host.write("etc/vfio-ferry/prepare.d/a.toml", "pf = \"0000:99:00.0\"\nvfs = 1")
    try nic.host.write("etc/vfio-ferry/prepare.d/notes.txt", "no settings")
    #expect(try find() == nil)
    try nic.host.write("etc/vfio-ferry/prepare.d/b.toml", "pf = \"ens1f0np0\"\nvfs = x")
    #expect { try find() } throws: { "\($0)".contains("b.toml:2: ") }
    try nic.host.write("etc/vfio-ferry/prepare.d/c.toml", "pf = \"3b:00.0\"\nvfs = 1")
    #expect(try find() == "3b:00.0")
    try nic.host.write("etc/vfio-ferry/prepare.d/b.toml", "pf = \"ens1f0np0\"\nvfs = 2")
    #expect { try find() } throws: { "\($0)".contains("c.toml: it names the same device as ") }
  }

  @Test("a physical function goes by several names, and nothing else is one")
  func names() throws {
    let nic = try DescribedConnectX()
    let root = nic.host.root
    for name in ["0000:3b:00.0", "3b:00.0", "pci-0000:3b:00.0", "pci/0000:3b:00.0", "ens1f0np0"] {
      #expect(try PhysicalFunction(named: name, root: root) == nic.device, "\(name)")
    }
    try nic.perform(.file("\(nic.device.folder)/sriov_numvfs", "1"))
    try nic.host.write("sys/class/net/ens1f0npf0vf0/phys_port_name", "pf0vf0")
    for (name, reason) in [
      ("0000:3b:00.2", "it is a virtual function itself, of 0000:3b:00.0"), ("0000:3c:00.0", "there is no such device"),
      ("0000:3a:00.0", "no sriov_numvfs"), ("ens1f0npf0vf0", "it stands for a virtual function (pf0vf0)"),
      ("eth9", "there is no such device"), ("../..", "there is no such device"),
      ("netdevsim/..", "there is no such device"),
    ] {
      #expect { try PhysicalFunction(named: name, root: root) } throws: { "\($0)".contains(reason) }
    }
  }
}

@Suite("The driver that the kernel's modules name for a device")
struct VariantDriverTests {
  private let virtual = "pci:v000015B3d0000101Esv000015B3sd00000043bc02sc00i00"

  @Test("of the aliases for VFIO that fit, the one that leaves the least open names the module")
  func best() {
    let aliases = ModuleAliases(loadable: DescribedConnectX.aliases)
    #expect(aliases.modules(for: virtual) == ["mlx5_vfio_pci", "vfio_pci"])
    #expect(aliases.modules(for: "pci:v00001B36d00000010sv0sd0bc01sc08i02") == ["vfio_pci"])
    #expect(aliases.modules(for: "usb:v1") == [] && ModuleAliases().modules(for: virtual) == [])
    let builtIn = "mlx5_vfio_pci.alias=vfio_pci:v000015B3d0000101Esv*sd*bc*sc*i*"
    #expect(ModuleAliases(builtIn: "a.license=GPL\0\(builtIn)\0").modules(for: virtual) == ["mlx5_vfio_pci"])
    #expect(ModuleAliases(builtIn: "mlx5_core.alias=pci:v000015B3d0000101Esv*sd*bc*sc*i*").isEmpty)
    #expect(ModuleAliases(loadable: "alias vfio_pci:v*d* ../x y\nalias vfio_pci:v* a/b").isEmpty)
  }

  @Test("a star stands for any text, a question mark for a character, and nothing else does")
  func stars() {
    func fits(_ pattern: String, _ text: String) -> Bool {
      ModuleAliases.fits(Array(pattern.utf8), Array(text.utf8))
    }
    #expect(
      fits("", "") && fits("*", "") && fits("a*c*", "abcbd") && fits("*bc", "abcbc") && fits("a", "a")
        && fits("*b?", "abbc"))
    #expect(
      !fits("a", "") && !fits("", "a") && !fits("*bc", "abcb") && !fits("a*d", "abc") && !fits("a", "b")
        && !fits("*b?", "ab"))
    #expect(!fits(String(repeating: "*a", count: 20) + "b", String(repeating: "a", count: 200)))
  }

  @Test("a driver that is not there yet is known by its module's name, and the module is loaded")
  func chosen() throws {
    let nic = try DescribedConnectX()
    let chooser = VariantDriver(root: nic.host.root)
    #expect(chooser.choose(for: virtual, asked: nil) == ChosenDriver(name: "mlx5_vfio_pci"))
    #expect(chooser.choose(for: nil, asked: nil) == ChosenDriver(name: "vfio-pci"))
    #expect(chooser.choose(for: virtual, asked: "mlx5_core") == ChosenDriver(name: "mlx5_core"))
    #expect(chooser.choose(for: virtual, asked: "a-b") == ChosenDriver(name: "a-b", module: "a_b"))
    #expect(
      chooser.choose(for: "pci:v00001DD8d00001003sv0sd0bc02sc00i00", asked: nil)
        == ChosenDriver(name: "pds_vfio_pci", module: "pds_vfio_pci"))
  }
}
