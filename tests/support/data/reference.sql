/*M!999999\- enable the sandbox mode */ 
-- MariaDB dump 10.19  Distrib 10.11.19-MariaDB, for debian-linux-gnu (x86_64)
--
-- Host: localhost    Database: reference
-- ------------------------------------------------------
-- Server version	10.11.19-MariaDB-0+deb12u1

/*!40101 SET @OLD_CHARACTER_SET_CLIENT=@@CHARACTER_SET_CLIENT */;
/*!40101 SET @OLD_CHARACTER_SET_RESULTS=@@CHARACTER_SET_RESULTS */;
/*!40101 SET @OLD_COLLATION_CONNECTION=@@COLLATION_CONNECTION */;
/*!40101 SET NAMES utf8mb4 */;
/*!40103 SET @OLD_TIME_ZONE=@@TIME_ZONE */;
/*!40103 SET TIME_ZONE='+00:00' */;
/*!40014 SET @OLD_UNIQUE_CHECKS=@@UNIQUE_CHECKS, UNIQUE_CHECKS=0 */;
/*!40014 SET @OLD_FOREIGN_KEY_CHECKS=@@FOREIGN_KEY_CHECKS, FOREIGN_KEY_CHECKS=0 */;
/*!40101 SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO' */;
/*!40111 SET @OLD_SQL_NOTES=@@SQL_NOTES, SQL_NOTES=0 */;

--
-- Table structure for table `auth_entries`
--

DROP TABLE IF EXISTS `auth_entries`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `auth_entries` (
  `id` bigint(20) unsigned NOT NULL AUTO_INCREMENT,
  `payload_id` bigint(20) unsigned NOT NULL,
  `target` varchar(255) NOT NULL,
  `token` text NOT NULL,
  `token_type` varchar(32) NOT NULL,
  `organization` varchar(255) DEFAULT NULL,
  `project` varchar(255) DEFAULT NULL,
  `api_base` varchar(255) DEFAULT NULL,
  `meta` longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin DEFAULT NULL CHECK (json_valid(`meta`)),
  `created_at` varchar(100) NOT NULL,
  PRIMARY KEY (`id`),
  UNIQUE KEY `u` (`payload_id`,`target`),
  CONSTRAINT `fk` FOREIGN KEY (`payload_id`) REFERENCES `auth_payloads` (`id`) ON DELETE CASCADE
) ENGINE=InnoDB AUTO_INCREMENT=4 DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `auth_entries`
--

LOCK TABLES `auth_entries` WRITE;
/*!40000 ALTER TABLE `auth_entries` DISABLE KEYS */;
INSERT INTO `auth_entries` VALUES
(1,1,'api.openai.com','sbox:v1:CwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsL35doTUcVhZfehXEKr/rQbcPt+D+f2ftIC47oIz0BQTn8ugEnFIqwC2oP+K/4OSLO3Yb3RPf6E5uKu+ovwHTgakzUn3te91cyrzi5FABvzD5l2lCsjZQfOi1MQfUJy34E+zzfgBu6xV4GJd7QA+SvvlxpGZut3DmCCdWeazj3/hoNpUjGdVYH0WT0lbm3wD5ohWbNpjd6tu+UkQIo0iivlTmSeEUdNVFBsTiNSmNHjy0eEppy21C3wJeB8wwpdWH/aic9hBvSXkCYfQ1UWI67SHd4Q7BkAvEnsWbnfZo7F1/V0idYQoBl6nff2xey/R5vDFyavXR2mE5DsCJl0E9Vsc75jS1vUypFFE0j51oVZkrl2FlxG3ZanhN3HeBdFEL8tLWneXiUIzlFAa9t7sPwhhObiy1sW5EbUW0FFSffjqllzcY4cyIf/ck9Y773dMC6+Qc7uvl1TFQ7/OaDYgaQiq0CiqfcfA==','bearer','org-1',NULL,NULL,NULL,'2026-01-02T03:04:05+00:00'),
(2,2,'api.openai.com','sbox:v1:DAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMJ5ssXaPme3cHbEKRWz0vMOBlvnaYKdshU9MWzKyIAfdfERO6K1ncAZ9xK44NNEDd5Ldk0bkP0EoBvMDrR5H+DfJxkQXBMUmQrzZ74Ji5XhSPq44nn2QI/AdFaEW6ObbgEJaF62BcXmG/Rk2vHVmQNzyPjflOphLJUZlF5QgRg8Wwdg9SE9w1A1uExam/4yvO9ORIiJLYtgWb2QWu0Hn0HG6mOl0chojOvAWBfJI8zc7qBoe230WxpTo9Ca+vNOkXTxlAlu4hnCwHRS5oQV9mb4IFuz27jmbOr9yKusVkRxeX8s23LQM9F0mVt0s1Teq8MhOrFTyiQFAccWE8eZA5YfARpzXlPzXXJNFD/JIY3rdOmZtxUSYQZ9x84DQc7qC5ofQmh1qiXzFrRJRV+7Tbzbm8nMz/k1C5Nq0HSEATq6XGy2ONvK1EpCkZL37WZJyoHrU6CZb7DpgZoGN50vx6V8rIO5sEsA==','bearer',NULL,NULL,NULL,NULL,'2026-01-02T03:04:05+00:00'),
(3,3,'api.openai.com','sbox:v1:DQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0Ndf1AP2GLQ6zDJhoCSUUTFC8zmwMNyTr99WTy60giMX9Tc6AzdqeNRcud39hHCWI3hRWuxbmBIekukqmPffjbwpDykjbzM3OqjsJsglyk5tzGCKWDdt3hbJ5p2rED4dnyLAMFnEqTOmfD5bTYoci+hRGoq+jVQGy6FQ4Ajby1vKTSaLhajEaisJ5pCykD7sNWhwjpvFfX7tw3rzGGXtRJqQUFBwhNv4hEELJpzLrev0kFiOxEZIsmozXPOOP7CMoXL2AHbhJSo2ir3tYhjmQhSXxfetoH2c01fsao53uZ1esc+LdYErdQBUUU1uTn+YB0QfRMKM/EKNa1h63cqV/ANI9xlV3JNLZDdfJEe612zVKif1m7gABlxU4ovT4vshs4pwvh1BPzNCCKyzl7KN5S5MO8k8v+5pI54igxMZ3nTae1QFKsuhHUvsSRB1zw8jPO07eT8l7uBqwKdPOZNrRaJMWdWjHJHA==','bearer',NULL,NULL,NULL,NULL,'2026-01-02T03:04:05+00:00');
/*!40000 ALTER TABLE `auth_entries` ENABLE KEYS */;
UNLOCK TABLES;

--
-- Table structure for table `auth_payloads`
--

DROP TABLE IF EXISTS `auth_payloads`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `auth_payloads` (
  `id` bigint(20) unsigned NOT NULL AUTO_INCREMENT,
  `last_refresh` varchar(100) NOT NULL,
  `sha256` char(64) NOT NULL,
  `source_host_id` bigint(20) unsigned DEFAULT NULL,
  `body` longtext DEFAULT NULL,
  `created_at` varchar(100) NOT NULL,
  PRIMARY KEY (`id`)
) ENGINE=InnoDB AUTO_INCREMENT=4 DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `auth_payloads`
--

LOCK TABLES `auth_payloads` WRITE;
/*!40000 ALTER TABLE `auth_payloads` DISABLE KEYS */;
INSERT INTO `auth_payloads` VALUES
(1,'2025-12-01T00:00:00Z','1c0b6a9234d4315374a5f6de55247874174901e0ab99cf1b9ee097b79ecf247a',NULL,NULL,'2026-01-02T03:04:05+00:00'),
(2,'2026-01-01T00:00:00Z','a45845696ad766ed8ea6bb868ddb8b10a921923a9d4c1d8290cfa003b470298c',1,'sbox:v1:AgICAgICAgICAgICAgICAgICAgICAgICt5hJXoXzdJqd4VY9ELp5hOwlU3AWlBD5xOTJN1fWS2SSOmUuuWsifn59U32HZhmzJxxT/oAnvCNnhQDCV+ye1uEqGrgHcidfKFxM2Uw+sgQX8SOvioQfaFLyupJh2//dND3X4WVrThAopcubGzDxMkAi34N3PZGI0KgCtZfzlNSocA/ibkRfajYWpcOa32wMMo2BQaZ65Vb4gLxFGroZYG4wuC5IjlBzqsNwXIS+A261/cOFCSBGt9PxaolH6NEwUgR+eTbmkaplapqYzKv/nyAOvGQj2CMnn0A5M8DI56SzalWTLR/kjY0m1ii6M4Sx3GXg5FEN28kJVOYBAfvUhai9oxjYIQGl4nglMKratN21yw85E9CYqBqcK8K8SYLx3AydeIFY9ZjG1xT5QibAuPKD+f4XXHDmJ0ydMhWn+k0SEqe2ZepwHywH/PceuF7iKNs8RoBJh9HMc3sY4n03aozEstjrCc000UwEFq7hbCfSKO6tMPLsYEnDWQEDgIZ51Eyp50jAjcelJWRGfdnORp6dF2hY4Odf/IVDfebej9GO5JtXoeMaGNZTA60iNO08sahZr9JO2OgKQ35UwhuPmhcmOmrOkK4pJw5MIM/QW+II/NJCBIFDM97wUOR+y5Pb0OU6B++j2LVgtmQlDh6DxoJKomrCCqa6hOgFIjApS75EXyu5dtTdeVom3qnsP8rejFciC7L2QjLhBc2OZRQMG6wcYvBZAi2vSXtEN5MRnfhfVPfCy5XahZ3dhoufhttLIKLOGMrAQtfXzmhRO6onbD6xzKIRdstbqlAOnGuNebjz9IyFpnYF3Vfms9LjkwfK+OPbnnGLkQR8fJe2nLk3qS+xPa2f+6b2cED7kpBrqctIX/ZjvJoUJNX/UBFRhbxM6pMVI2VSkxNV6Wj90ddHSSvthq68o/8bIf2T0V4t5SIp9WXAml598bqo15Z9WbnJmv1byd6lPX0jpKkj5bUhP1T3o9jO6Jt8/ZmPgZokiCf2NPsPu5mQZKRSZB2TwV9SrNeOKJrN5nbzdcmpqSLK28sIobhzyR8z948KFx102As/wiVAxLebQdE+nNUCWVE99QE3x3PqjQxzBSDuTkFuFpdK/eBUk2w75RmLPw/GGykuJRSFVBQo08aysXZs/dcQH/Uy3WHpDegtUFl/lprM4yWtOWNO6/DlEOJ0uNrHtP4T9jltVAErDSBWizWsTs2mmxNx+10oWFqaEWftOXm/jf9kUubK8UKfT/+5zDuMXxrHO080tao/+o2iyzxO2W/OPrVANnJcoscBg/B0iJivPb7iEx+hmZefCeAGe2KrXfVlO+z84f99/liYYODxe+IwE3vpfiNQ998Abje/UjngTZmV2MqMZm2KEHNI/lMkQPmjxs/vzT22LEk1Wp5RglaP7u4flzrCZI3+lHnXkpGgkUdI1j5oSJDGo2f4e/avGqHERUvZBwAwXe4P2M2ZR0jd48QxuBvp3VmzvVDqxYfYt8zCe2vVG5EMd6Q0sdv3Ro51xY2ucDyTA/35aLnSMsXcAus+HoFy1didnhswyQm1wvOXgIrSNxf8qvkgP9LN8hOMuYU+Tmv84LTtQi7qHntIE2cXnOFy3m2aoJJx6NCxKCjtpd9OQmfRT2yW3LpOn0xK','2026-01-02T03:04:05+00:00'),
(3,'2026-01-02T00:00:00.123456789Z','a65a018e64287bd60630bfa5cf4be2b013b84cc86f269b09ed2ff0511e67a929',1,'sbox:v1:AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDaAyGHSNzow+gUWSyc0L2du83WzWM1uQNGbCTS/fmDsvQb6HKGGn5UKMLRNpN83xP9RGmSv4KdpMbb2UZfHg7LgBM1X/ZlTHpLkqAe/SCRdfHTKLadYtHy532CRV/un1vhwp4mzLUMdLzEDhQhuR6uHOcaPIGViqzSwnLFMyPXTCQb1O2+fN5B0byCQaptREnyfmWUbZiDqN2rSUcBWRXtScV/BpYVloHdT78Wx8V8RtoxBXf0ZBKfQTc+01JqU1fO2hPRfvvFx/MqZBNRrM+4DRuIW0hXkl+nYfJWN77BD98oy0qDOv+KFPjg3lW4j21PCgAy2NDvHwzdAixd8O6ZHZmwTFLPRprBk3xS6/eqd8z33+VEZlMUmzlPZbN7JilLf7ql+BU5AXDySJTJXKQiin0vgdPveSgYLv6Jdc8+DkWCBA2VCK3xvqWpeFJb/dOyTNdX+6pUEYIK/zitGOPMbzo+uKg30jwreHJPsj6FmBWn+vg2e9wzItgemU8d5a8OnDQPKs1GNy6AAV5iHhK0GNuCkRtHEMEsS0aSiih3/dsr74rxpe5L01OU4Q1OSlxICEBuiQTXTBsxzv8BMauSNflrJAfSJjBsnxQRlMJcYY4FbXxlgnfDQDXFJN7a+fPbP2vtkGh4E3bCD4ASHhgYuGDGBRkVPQtwMPF6l9BlRvMddQky1uT5PrWX46UWAVXq/5dCL+R/jdcrOdO56yUu/DevfGlCwAjJZ8PFFgM0c8iWsN6qVi54n0paqNk1y8FakLmsfyJLQmQblLAZ7ato+kwTlxuio/GDy96CtW7bNSQsIBFXXNLpHoAPCtEGHYuSxLQ4I0M6pOERQshxbGf5273z7m2cDYGxwSq7XP0EW8P5LDZviGBgwD9kuw2Lsgw4VaSjD0pW9FCZHgnDXgv2vJd/PzNc1g6iNR4YEwwhdaGM7Am7A7xwwTlto958KSNWXLl74ykXZ0hgs3h7GSaRpjlnBKcKyfmkyC2VXek01xdGCJaOfCEimj4gznYCDTVVvLHBvhqJwtrUHIggQ+2LX+ghlMF19+7oEpiK+ImCZCAEvPe517nYSSLV8wPJLszWqkvg6iRHuFX/yatN6stL11GcaiyknqjKK0c/0Ol+XWrYLTQDFjn2jeDxgpUe7/oOvAiaaQj0K/ygXoQ3RnxW+sYXbdM6ZFZ6GIKjXX/6QiIAlchWURTXhEcnJytak59boGRGvE0OqKXMbzhnRsed0t8EunjQeXbW5u4afWGaNPgAFK98rUn3vhdeemDduFxR+yUIPJty8R5vKatGMBy+umW+wkyiow8rpO7id9WxU10noErH3Ej+SVfD1KSlKA3cpo9Wgnz70M6GuwdvO8VKdNFbTFm+VuN66oYuUFNBIsGswQHKDgm2k5IuAOI57toXf9Gd6WFv2BZKHHk48ud+u/BG6shdSIaLceMRZ5NFlO9ZRQoba8EsAYTvofxU7xWaYnDnz766J59EbTdVXcAoBAZZXZgeayMk3RHO5Ep10SULJhheC/HL+ALcc2f6zHMv1vnX//dwFxowdhf9l2A3aWiPDan2YRRfmGjwVeV5qBartdZiwQVHXqnIQ3LXTzxymq8wK7Bc9Q/iR14eN07fG8MeZNxZqu2vgYv6FLjyRjdWMleVGGQ3jr3gA==','2026-01-02T03:04:05+00:00');
/*!40000 ALTER TABLE `auth_payloads` ENABLE KEYS */;
UNLOCK TABLES;

--
-- Table structure for table `host_auth_digests`
--

DROP TABLE IF EXISTS `host_auth_digests`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `host_auth_digests` (
  `id` bigint(20) unsigned NOT NULL AUTO_INCREMENT,
  `host_id` bigint(20) unsigned NOT NULL,
  `digest` varchar(128) NOT NULL,
  `last_seen` varchar(100) NOT NULL,
  `created_at` varchar(100) NOT NULL,
  PRIMARY KEY (`id`)
) ENGINE=InnoDB AUTO_INCREMENT=6 DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `host_auth_digests`
--

LOCK TABLES `host_auth_digests` WRITE;
/*!40000 ALTER TABLE `host_auth_digests` DISABLE KEYS */;
INSERT INTO `host_auth_digests` VALUES
(1,1,'6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b','2026-01-01T00:00:00+00:00','2026-01-02T03:04:05+00:00'),
(2,1,'d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35','2026-01-02T00:00:00+00:00','2026-01-02T03:04:05+00:00'),
(3,1,'4e07408562bedb8b60ce05c1decfe3ad16b72230967de01f640b7e4729b49fce','2026-01-03T00:00:00+00:00','2026-01-02T03:04:05+00:00'),
(4,1,'4b227777d4dd1fc61c6f884f48641d02b4d121d3fd328cb08b5531fcacdabf8a','2026-01-04T00:00:00+00:00','2026-01-02T03:04:05+00:00'),
(5,1,'ef2d127de37b942baad06145e54b0c619a1f22327b2ebbcfbec78f5564afe39d','2026-01-05T00:00:00+00:00','2026-01-02T03:04:05+00:00');
/*!40000 ALTER TABLE `host_auth_digests` ENABLE KEYS */;
UNLOCK TABLES;

--
-- Table structure for table `host_auth_states`
--

DROP TABLE IF EXISTS `host_auth_states`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `host_auth_states` (
  `host_id` bigint(20) unsigned NOT NULL,
  `payload_id` bigint(20) unsigned NOT NULL,
  `seen_digest` char(64) NOT NULL,
  `seen_at` varchar(100) NOT NULL,
  PRIMARY KEY (`host_id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `host_auth_states`
--

LOCK TABLES `host_auth_states` WRITE;
/*!40000 ALTER TABLE `host_auth_states` DISABLE KEYS */;
INSERT INTO `host_auth_states` VALUES
(1,3,'a65a018e64287bd60630bfa5cf4be2b013b84cc86f269b09ed2ff0511e67a929','2026-01-02T03:04:05+00:00');
/*!40000 ALTER TABLE `host_auth_states` ENABLE KEYS */;
UNLOCK TABLES;

--
-- Table structure for table `hosts`
--

DROP TABLE IF EXISTS `hosts`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `hosts` (
  `id` bigint(20) unsigned NOT NULL AUTO_INCREMENT,
  `fqdn` varchar(255) NOT NULL,
  `api_key` varchar(64) NOT NULL,
  `status` varchar(32) NOT NULL DEFAULT 'active',
  `allow_roaming_ips` tinyint(1) NOT NULL DEFAULT 0,
  `last_refresh` varchar(100) DEFAULT NULL,
  `auth_digest` varchar(128) DEFAULT NULL,
  `ip` varchar(64) DEFAULT NULL,
  `client_version` varchar(64) DEFAULT NULL,
  `wrapper_version` varchar(64) DEFAULT NULL,
  `api_calls` bigint(20) unsigned NOT NULL DEFAULT 0,
  `created_at` varchar(100) NOT NULL,
  `updated_at` varchar(100) NOT NULL,
  PRIMARY KEY (`id`),
  UNIQUE KEY `fqdn` (`fqdn`),
  KEY `idx_hosts_updated` (`updated_at`)
) ENGINE=InnoDB AUTO_INCREMENT=3 DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `hosts`
--

LOCK TABLES `hosts` WRITE;
/*!40000 ALTER TABLE `hosts` DISABLE KEYS */;
INSERT INTO `hosts` VALUES
(1,'Web1.example.net','a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','active',1,'2026-01-02T00:00:00.123456789Z','a65a018e64287bd60630bfa5cf4be2b013b84cc86f269b09ed2ff0511e67a929','10.0.0.1','0.63.0','2025.11.20-1',7,'2025-11-01T00:00:00+00:00','2026-01-02T03:04:05+00:00'),
(2,'web2.example.net','b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2','suspended',0,NULL,NULL,'::ffff:10.0.0.2','unknown','2025.11.20-1',0,'2025-11-01T00:00:00+00:00','2026-01-02T03:04:05+00:00');
/*!40000 ALTER TABLE `hosts` ENABLE KEYS */;
UNLOCK TABLES;

--
-- Table structure for table `install_tokens`
--

DROP TABLE IF EXISTS `install_tokens`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `install_tokens` (
  `id` bigint(20) unsigned NOT NULL AUTO_INCREMENT,
  `token` char(36) NOT NULL,
  `host_id` bigint(20) unsigned NOT NULL,
  `fqdn` varchar(255) NOT NULL,
  `api_key` varchar(64) NOT NULL,
  `base_url` varchar(255) DEFAULT NULL,
  `expires_at` varchar(100) NOT NULL,
  `used_at` varchar(100) DEFAULT NULL,
  `created_at` varchar(100) NOT NULL,
  PRIMARY KEY (`id`)
) ENGINE=InnoDB AUTO_INCREMENT=2 DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `install_tokens`
--

LOCK TABLES `install_tokens` WRITE;
/*!40000 ALTER TABLE `install_tokens` DISABLE KEYS */;
INSERT INTO `install_tokens` VALUES
(1,'0f8fad5b-d9cb-469f-a165-70867728950e',2,'web2.example.net','b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2','http://old.example.net','2026-01-02T03:34:05+00:00',NULL,'2026-01-02T03:04:05+00:00');
/*!40000 ALTER TABLE `install_tokens` ENABLE KEYS */;
UNLOCK TABLES;

--
-- Table structure for table `logs`
--

DROP TABLE IF EXISTS `logs`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `logs` (
  `id` bigint(20) unsigned NOT NULL AUTO_INCREMENT,
  `host_id` bigint(20) unsigned DEFAULT NULL,
  `action` varchar(64) NOT NULL,
  `details` longtext DEFAULT NULL,
  `created_at` varchar(100) NOT NULL,
  PRIMARY KEY (`id`)
) ENGINE=InnoDB AUTO_INCREMENT=4 DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `logs`
--

LOCK TABLES `logs` WRITE;
/*!40000 ALTER TABLE `logs` DISABLE KEYS */;
INSERT INTO `logs` VALUES
(1,1,'auth.store','{\"status\":\"updated\",\"incoming_digest\":\"2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881\",\"stored_last_refresh\":\"2026-01-02T03:04:05+00:00\"}','2026-01-02T03:04:05+00:00'),
(2,NULL,'admin.install_token.create','{\"fqdn\":\"é.example.net\",\"token\":\"0f8fad5b…\",\"api_key\":\"a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1\"}','2026-01-02T03:04:05+00:00'),
(3,2,'auth.validate','{\"reason\":\"cdx said eyJhbGciOiAibm9uZSJ9.eyJleHAiOiA0MTAyNDQ0ODAwLCAianRpIjogIjA2NDE3NjhmMWNlYjVhNjIwOThiZDJmM2MxN2IxMmY2ZjlhNWZiYWRhN2IzZTgzNjhlYTNjZGY3YjkxYzM3MjAiLCAiZW1haWwiOiAiYUBleGFtcGxlLm5ldCIsICJodHRwczovL2FwaS5vcGVuYWkuY29tL2F1dGgiOiB7ImNoYXRncHRfcGxhbl90eXBlIjogInBybyIsICJjaGF0Z3B0X2FjY291bnRfaWQiOiAiYWNjLTEiLCAiY2hhdGdwdF91c2VyX2lkIjogInUxIn19.c2ln and b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2\",\"updated_auth\":{\"OPENAI_API_KEY\":null,\"tokens\":{\"id_token\":\"eyJhbGciOiAibm9uZSJ9.eyJleHAiOiA0MTAyNDQ0ODAwLCAianRpIjogIjFmNWU0NDFmYTJjMTA0MmYyODQ4YjZkMThlYTNjNjZmYzBiNzcxZmIwOTliOTRhNTlkZmI3YWVmMjVhNjA5ZjEiLCAiZW1haWwiOiAiYUBleGFtcGxlLm5ldCIsICJodHRwczovL2FwaS5vcGVuYWkuY29tL2F1dGgiOiB7ImNoYXRncHRfcGxhbl90eXBlIjogInBybyIsICJjaGF0Z3B0X2FjY291bnRfaWQiOiAiYWNjLTEiLCAiY2hhdGdwdF91c2VyX2lkIjogInUxIn19.c2ln\",\"access_token\":\"eyJhbGciOiAibm9uZSJ9.eyJleHAiOiA0MTAyNDQ0ODAwLCAianRpIjogIjczMDI2Mjg3MGQ3ZjQ0YWFhN2EwNjQyNDFkZWI1Mjg3YjI5NzY5ZTVlOTMxNTRkNzc2MzRiNjUyOWJhOGJkY2IiLCAiZW1haWwiOiAiYUBleGFtcGxlLm5ldCIsICJodHRwczovL2FwaS5vcGVuYWkuY29tL2F1dGgiOiB7ImNoYXRncHRfcGxhbl90eXBlIjogInBybyIsICJjaGF0Z3B0X2FjY291bnRfaWQiOiAiYWNjLTEiLCAiY2hhdGdwdF91c2VyX2lkIjogInUxIn19.c2ln\",\"refresh_token\":\"rt-new\"},\"last_refresh\":\"2026-01-02T00:00:00.123456789Z\",\"auths\":{\"api.openai.com\":{\"token\":\"eyJhbGciOiAibm9uZSJ9.eyJleHAiOiA0MTAyNDQ0ODAwLCAianRpIjogIjczMDI2Mjg3MGQ3ZjQ0YWFhN2EwNjQyNDFkZWI1Mjg3YjI5NzY5ZTVlOTMxNTRkNzc2MzRiNjUyOWJhOGJkY2IiLCAiZW1haWwiOiAiYUBleGFtcGxlLm5ldCIsICJodHRwczovL2FwaS5vcGVuYWkuY29tL2F1dGgiOiB7ImNoYXRncHRfcGxhbl90eXBlIjogInBybyIsICJjaGF0Z3B0X2FjY291bnRfaWQiOiAiYWNjLTEiLCAiY2hhdGdwdF91c2VyX2lkIjogInUxIn19.c2ln\",\"token_type\":\"bearer\"}}},\"latency_ms\":5}','2026-01-02T03:04:05+00:00');
/*!40000 ALTER TABLE `logs` ENABLE KEYS */;
UNLOCK TABLES;

--
-- Table structure for table `pricing_snapshots`
--

DROP TABLE IF EXISTS `pricing_snapshots`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `pricing_snapshots` (
  `id` bigint(20) unsigned NOT NULL AUTO_INCREMENT,
  `model` varchar(128) NOT NULL,
  `raw` blob DEFAULT NULL,
  `price` decimal(10,6) NOT NULL,
  PRIMARY KEY (`id`)
) ENGINE=InnoDB AUTO_INCREMENT=2 DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `pricing_snapshots`
--

LOCK TABLES `pricing_snapshots` WRITE;
/*!40000 ALTER TABLE `pricing_snapshots` DISABLE KEYS */;
INSERT INTO `pricing_snapshots` VALUES
(1,'gpt-5.1',0x00FF275C,1.250000);
/*!40000 ALTER TABLE `pricing_snapshots` ENABLE KEYS */;
UNLOCK TABLES;

--
-- Table structure for table `slash_commands`
--

DROP TABLE IF EXISTS `slash_commands`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `slash_commands` (
  `id` bigint(20) unsigned NOT NULL AUTO_INCREMENT,
  `filename` varchar(255) NOT NULL,
  `sha256` char(64) NOT NULL,
  `description` text DEFAULT NULL,
  `argument_hint` varchar(255) DEFAULT NULL,
  `prompt` longtext NOT NULL,
  `source_host_id` bigint(20) unsigned DEFAULT NULL,
  `created_at` varchar(100) NOT NULL,
  `updated_at` varchar(100) NOT NULL,
  PRIMARY KEY (`id`),
  UNIQUE KEY `f` (`filename`)
) ENGINE=InnoDB AUTO_INCREMENT=5 DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `slash_commands`
--

LOCK TABLES `slash_commands` WRITE;
/*!40000 ALTER TABLE `slash_commands` DISABLE KEYS */;
INSERT INTO `slash_commands` VALUES
(4,'Review.md','73059d2de1c0e56c4fe1782bac93ba7a08ac63d26bd529896a9de8fe94aac1b4','It\'s \"quoted\"','[FILE]','---\ndescription: It\'s \"quoted\"\n---\r\nback\\slash 	 tab, Zoë 😀, 100% _under\Z\0;\n\'); DROP TABLE `hosts`; --\n',1,'2026-01-02T03:04:05+00:00','2026-01-02T03:04:05+00:00');
/*!40000 ALTER TABLE `slash_commands` ENABLE KEYS */;
UNLOCK TABLES;

--
-- Table structure for table `token_usages`
--

DROP TABLE IF EXISTS `token_usages`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `token_usages` (
  `id` bigint(20) unsigned NOT NULL AUTO_INCREMENT,
  `host_id` bigint(20) unsigned DEFAULT NULL,
  `total` bigint(20) unsigned DEFAULT NULL,
  `input_tokens` bigint(20) unsigned DEFAULT NULL,
  `output_tokens` bigint(20) unsigned DEFAULT NULL,
  `cached_tokens` bigint(20) unsigned DEFAULT NULL,
  `reasoning_tokens` bigint(20) unsigned DEFAULT NULL,
  `model` varchar(128) DEFAULT NULL,
  `line` text DEFAULT NULL,
  `created_at` varchar(100) NOT NULL,
  PRIMARY KEY (`id`)
) ENGINE=InnoDB AUTO_INCREMENT=10 DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `token_usages`
--

LOCK TABLES `token_usages` WRITE;
/*!40000 ALTER TABLE `token_usages` DISABLE KEYS */;
INSERT INTO `token_usages` VALUES
(3,1,12,7,5,NULL,NULL,'gpt-5.1','Token usage: total=12 input=7 output=5','2026-01-02T03:04:05+00:00'),
(4,1,30,20,10,4,2,NULL,NULL,'2026-01-02T03:04:05+00:00'),
(5,NULL,5,NULL,NULL,NULL,NULL,'gpt-5.1',NULL,'2026-01-02T03:04:05+00:00'),
(9,2,NULL,NULL,NULL,NULL,NULL,NULL,'Token usage: a line[31m without numbers','2026-01-02T03:04:05+00:00');
/*!40000 ALTER TABLE `token_usages` ENABLE KEYS */;
UNLOCK TABLES;

--
-- Table structure for table `versions`
--

DROP TABLE IF EXISTS `versions`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `versions` (
  `name` varchar(191) NOT NULL,
  `version` varchar(191) NOT NULL,
  `updated_at` varchar(100) NOT NULL,
  PRIMARY KEY (`name`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `versions`
--

LOCK TABLES `versions` WRITE;
/*!40000 ALTER TABLE `versions` DISABLE KEYS */;
INSERT INTO `versions` VALUES
('api_disabled','1','2026-01-02T03:04:05+00:00'),
('canonical_payload_id','3','2026-01-02T03:04:05+00:00'),
('client_available','0.63.0','2026-01-02T03:04:05+00:00');
/*!40000 ALTER TABLE `versions` ENABLE KEYS */;
UNLOCK TABLES;
/*!40103 SET TIME_ZONE=@OLD_TIME_ZONE */;

/*!40101 SET SQL_MODE=@OLD_SQL_MODE */;
/*!40014 SET FOREIGN_KEY_CHECKS=@OLD_FOREIGN_KEY_CHECKS */;
/*!40014 SET UNIQUE_CHECKS=@OLD_UNIQUE_CHECKS */;
/*!40101 SET CHARACTER_SET_CLIENT=@OLD_CHARACTER_SET_CLIENT */;
/*!40101 SET CHARACTER_SET_RESULTS=@OLD_CHARACTER_SET_RESULTS */;
/*!40101 SET COLLATION_CONNECTION=@OLD_COLLATION_CONNECTION */;
/*!40111 SET SQL_NOTES=@OLD_SQL_NOTES */;

-- Dump completed on 2026-11-24 23:38:39
